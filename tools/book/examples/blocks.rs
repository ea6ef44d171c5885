//! Prints the pages and their code blocks as JSON, for tools/browser.

use book::{Block, Book};
use serde_json::{Value, json};

fn main() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let book =
        Book::read(root.unwrap()).unwrap_or_else(|defects| panic!("{defects:?}"));
    let block = |it: &Block| json!({ "line": it.line, "fence": it.fence, "shown": it.shown(), "whole": it.whole() });
    let pages = book.pages.iter().map(|page| {
        json!({ "path": page.path, "blocks": page.blocks.iter().map(block).collect::<Vec<_>>() })
    });
    println!("{}", pages.collect::<Value>());
}
