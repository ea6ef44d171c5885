//! Pages to doctests: each Rust block of the book becomes a test, by skeptic.
//!
//! A test is named after the page and the line of its block: `server_echo_line_42` holds
//! `src/server/echo.md:42` true. Blocks that are the same program (many anchors of one file)
//! are compiled once, in the name of the first. tests/guide runs them, and the
//! tests that are listed here: of the console blocks, and of what the pages promise.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs, io, process};

use book::{Block, Book};

fn main() -> Result<(), Box<dyn Error>> {
    for source in ["book.toml", "src", "snippets", "tests"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let read = Book::read(&root).and_then(|book| match book::numbers(&root, &book) {
        defects if defects.is_empty() => Ok(book),
        defects => Err(defects),
    });
    let book = read.unwrap_or_else(|defects| {
        for defect in defects {
            eprintln!("{defect}");
        }
        process::exit(1)
    });

    let mut seen = HashSet::new();
    let mut documents = Vec::new();
    for block in book.blocks().filter(|block| block.is_rust()) {
        if seen.insert((&block.program, &block.fence)) {
            documents.push(document(&out, block)?);
        }
    }
    skeptic::generate_doc_tests(&documents);

    // harness::block compiles and runs the blocks, and says why.
    let tests = fs::read_to_string(out.join("skeptic-tests.rs"))?;
    let tests = tests.replace("extern crate skeptic;", "");
    fs::write(
        out.join("doctests.rs"),
        tests.replace("skeptic::rt::", "harness::block::"),
    )?;

    let mut pages = String::from("mod transcripts {\n");
    for page in book.pages.iter().filter(|page| !page.consoles().is_empty()) {
        let (name, path) = (page.name(), &page.path);
        writeln!(pages, "#[test] fn {name}() {{ harness::transcript({path:?}) }}")?;
    }
    pages += "}\n";
    modules(&root.join("snippets/tests"), &mut pages)?;
    fs::write(out.join("pages.rs"), pages)?;
    Ok(())
}

/// Makes a module of each file and each folder of tests, so that none can be forgotten.
fn modules(folder: &Path, pages: &mut String) -> Result<(), Box<dyn Error>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let name =
            path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_");
        if path.is_dir() {
            writeln!(pages, "pub mod {name} {{")?;
            modules(&path, pages)?;
            pages.push_str("}\n");
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            writeln!(pages, "#[path = {path:?}] pub mod {name};")?;
        }
    }
    Ok(())
}

/// Writes a Markdown file with this block alone, from which skeptic makes the test with the
/// block's name: skeptic joins the name of the file and the line of the fence.
fn document(out: &Path, block: &Block) -> Result<PathBuf, Box<dyn Error>> {
    let folder = out.join("blocks").join(block.line.to_string());
    let path = folder.join(block.page_name()).with_extension("md");
    let blank = "\n".repeat(block.line - 1);
    let (ticks, fence) = ("`".repeat(12), &block.fence);
    // skeptic puts a line before the program: without its first, blank line, the numbers in
    // the messages of rustc are those of the page or the program.
    let program = block.program.strip_prefix('\n').unwrap_or(&block.program);
    fs::create_dir_all(folder)?;
    fs::write(&path, format!("{blank}{ticks}{fence}\n{program}{ticks}\n"))?;
    // skeptic tells cargo to watch this file. A file newer than the run that wrote it would
    // make cargo run this script again, each time.
    fs::File::options()
        .write(true)
        .open(&path)?
        .set_modified(SystemTime::UNIX_EPOCH)?;
    Ok(path)
}
