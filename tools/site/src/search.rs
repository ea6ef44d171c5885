//! What theme/search.js searches, as two scripts: a script loads from a file too, where `fetch`
//! may not. The first is small and comes when the search opens: titles, and the names in the code.
//! The second has the texts, and comes with the first letter that is typed.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::Page;

/// Page by page: its address, its name and its sections, each with its fragment, its title, the
/// names in its code, and those that stand in hidden lines alone.
pub fn index(pages: &[Page]) -> String {
    let pages = pages.iter().enumerate().map(|(number, page)| {
        let sections = &page.content.sections;
        let shown = sections.iter().flat_map(|section| names(&section.code));
        let mut known: HashSet<&str> = shown.collect();
        let sections = sections.iter().map(|section| {
            let mut seen = HashSet::new();
            let shown = names(&section.code).filter(|name| seen.insert(*name));
            let shown: Vec<&str> = shown.collect();
            let hidden = names(&section.hidden).filter(|name| known.insert(name));
            let hidden: Vec<&str> = hidden.collect();
            json!([section.id, section.title, shown.join(" "), hidden.join(" ")])
        });
        let sections: Vec<Value> = sections.collect();
        let path = if number == 0 { "index.html" } else { &page.path };
        json!([path, page.title, sections])
    });
    format!("var searchIndex = {};\n", Value::from_iter(pages))
}

/// The prose and the code of the same sections in the same order.
pub fn texts(pages: &[Page]) -> String {
    let sections = pages.iter().flat_map(|page| &page.content.sections);
    let texts =
        sections.map(|section| json!([section.text, section.code.trim_end()]));
    format!("searchTexts({});\n", Value::from_iter(texts))
}

/// The identifiers in the code.
fn names(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| {
        word.len() > 2 && !word.starts_with(|c: char| c.is_ascii_digit())
    })
}
