//! What `Book::read` makes of a whole book, and says of the broken ones in defects.txt.

use std::fs;
use std::path::Path;

use book::{Book, numbers};
use snapbox::Assert;
use snapbox::data::Data;
use snapbox::report::Palette;
use tempfile::TempDir;

/// A whole book: one page, which shows one program. The tests break it.
const BOOK: [(&str, &str); 5] = [
    ("book.toml", "[book]\ntitle = \"A book\"\n[build]\ncreate-missing = false\n"),
    ("src/SUMMARY.md", "# Summary\n\n- [Page](server/page.md)\n"),
    ("src/server/page.md", PAGE),
    ("snippets/Cargo.toml", "[[bin]]\nname = \"page\"\npath = \"server/page.rs\"\n"),
    ("snippets/server/page.rs", PROGRAM),
];

const PAGE: &str = "\
# Page

```rust,no_run
{{#rustdoc_include ../../snippets/server/page.rs:body}}
```

```console
$ cargo run --bin page
hello
```
";

const PROGRAM: &str = "\
// ANCHOR: program
fn main() {
    // ANCHOR: body
    println!(\"hello\");
    // ANCHOR_END: body
}
// ANCHOR_END: program
";

/// The book with some files replaced by, or added to, those in `changes`.
fn book(changes: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in BOOK.iter().chain(changes) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The book with more text at the end of its page, which begins at line 11.
fn page(more: &str) -> TempDir {
    book(&[("src/server/page.md", &format!("{PAGE}{more}"))])
}

fn read(root: &Path) -> Book {
    Book::read(root).unwrap_or_else(|defects| panic!("{defects:?}"))
}

#[test]
fn each_broken_book_says_what_is_wrong() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/defects.txt");
    let text = fs::read_to_string(&path).unwrap();
    let mut cases = text.split("\n=== ");
    let mut actual = cases.next().unwrap().to_owned();
    for case in cases {
        let broken = case.split("\n!!! ").next().unwrap().trim_end();
        let mut files = broken.split("\n--- ");
        let name = files.next().unwrap();
        let changes: Vec<(&str, String)> = files
            .map(|file| match file.split_once('\n').unwrap_or((file, "")) {
                ("page", more) => ("src/server/page.md", format!("{PAGE}{more}\n")),
                (path, text) => (path, format!("{text}\n")),
            })
            .collect();
        let changes: Vec<_> =
            changes.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let folder = book(&changes);
        let defects = match Book::read(folder.path()) {
            Ok(book) => numbers(folder.path(), &book),
            Err(defects) => defects,
        };
        assert!(!defects.is_empty(), "{name}: nothing is wrong with this book");
        actual += &format!("\n=== {broken}\n");
        for defect in defects {
            actual += &format!("!!! {defect}\n");
        }
    }
    Assert::new()
        .palette(Palette::plain())
        .action_env("SNAPSHOTS")
        .eq(actual, Data::read_from(&path, None).raw());
}

#[test]
fn a_whole_book_has_no_defect() {
    let folder = book(&[]);
    let book = read(folder.path());
    let block = &book.pages[0].blocks[0];
    assert_eq!(block.test_name(), "server_page_line_3");
    assert_eq!(block.origin, "snippets/server/page.rs");
    assert_eq!(block.text, "# fn main() {\n    println!(\"hello\");\n# }\n");
    // As in the file, where line 4 prints; the anchor comments are blank.
    assert_eq!(block.program, "\nfn main() {\n\n    println!(\"hello\");\n\n}\n\n");
}

#[test]
fn a_block_of_the_page_keeps_its_lines() {
    let folder = page("\n```rust\n# fn main() {\nlet x = 1;\n#\n# }\n```\n");
    let block = &read(folder.path()).pages[0].blocks[2];
    assert_eq!((block.line, block.origin.as_str()), (12, "src/server/page.md"));
    let lines: Vec<&str> = block.program.lines().collect();
    assert_eq!(lines[12..], ["fn main() {", "let x = 1;", "", "}"]);
    assert!(lines[..12].iter().all(|line| line.is_empty()));
}

#[test]
fn a_page_that_is_not_there() {
    let defects = Book::read(book(&[("src/SUMMARY.md", "- [Page](no.md)\n")]).path())
        .expect_err("the page is missing");
    assert_eq!(defects[0].file, "src/SUMMARY.md");
    assert!(defects[0].message.contains("no.md"), "{}", defects[0]);
}

#[test]
fn a_manifest_that_cannot_be_read() {
    let book = book(&[("snippets/packages/tls/Cargo.toml", "[package\n")]);
    let defects = Book::read(book.path()).expect_err("the manifest is broken");
    assert_eq!(defects[0].file, "snippets/packages/tls/Cargo.toml");
    assert!(defects[0].message.starts_with("cannot be read: "), "{}", defects[0]);
}

#[test]
fn what_is_no_defect() {
    read(page("\n```console\n$ curl 'http://127.0.0.1:3000/?a=1&b' -d '1 > 0; $x' -H \"x: $(printf '%070d' 7)\"\n$ curl http://a.test/b\n```\n").path());
    let mistake = [
        ("snippets/mistakes/Cargo.toml", "[package]\nname = \"mistakes\"\n"),
        ("snippets/mistakes/server/mistake.rs", "fn main() { 1 }\n"),
        (
            "snippets/mistakes/server/mistake.stderr",
            "error[E0308]: mismatched types\n",
        ),
    ];
    let shown = "\n```text\n{{#include ../../snippets/mistakes/server/mistake.stderr}}\n```\n";
    let shown = format!("{PAGE}{shown}");
    read(book(&[&mistake[..], &[("src/server/page.md", &shown)]].concat()).path());
    // A test of a package: libtest is its main.
    let test = [
        (
            "snippets/packages/page/Cargo.toml",
            "[[test]]\nname = \"process\"\npath = \"../../server/process.rs\"\n",
        ),
        (
            "snippets/server/process.rs",
            "// ANCHOR: test\n#[tokio::test]\nasync fn it_works() {}\n// ANCHOR_END: test\n",
        ),
    ];
    let shown = "\n```rust,no_run\n{{#rustdoc_include ../../snippets/server/process.rs:test}}\n```\n";
    let shown = format!("{PAGE}{shown}");
    read(book(&[&test[..], &[("src/server/page.md", &shown)]].concat()).path());
}
