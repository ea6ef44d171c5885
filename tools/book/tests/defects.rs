//! What `Book::read` says of a broken book: one broken page a test, and the exact message.

use std::fs;
use std::path::Path;

use book::Book;
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

#[track_caller]
fn assert_defects(book: TempDir, expected: &[&str]) {
    let defects = Book::read(book.path()).expect_err("the book is broken");
    let defects: Vec<String> = defects.iter().map(ToString::to_string).collect();
    assert_eq!(defects, expected);
}

fn read(root: &Path) -> Book {
    Book::read(root).unwrap_or_else(|defects| panic!("{defects:?}"))
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
fn a_missing_include_file() {
    assert_defects(
        page(
            "\n```rust\n{{#rustdoc_include ../../snippets/server/pgae.rs:body}}\n```\n",
        ),
        &[
            "src/server/page.md:13: there is no file snippets/server/pgae.rs to include: correct the path, which starts at the folder of the page",
        ],
    );
}

#[test]
fn a_misspelt_anchor() {
    assert_defects(
        page(
            "\n```rust,no_run\n{{#rustdoc_include ../../snippets/server/page.rs:bodyx}}\n```\n",
        ),
        &[
            "src/server/page.md:13: snippets/server/page.rs has no anchor `bodyx` (there: body, program): correct the name, or add `// ANCHOR: bodyx` and `// ANCHOR_END: bodyx`",
        ],
    );
}

#[test]
fn an_include_by_line_numbers() {
    assert_defects(
        page(
            "\n```rust,no_run\n{{#rustdoc_include ../../snippets/server/page.rs:2:4}}\n```\n",
        ),
        &[
            "src/server/page.md:13: includes lines of snippets/server/page.rs by number, which drift: name an anchor (there: body, program)",
        ],
    );
}

#[test]
fn an_include_of_a_whole_program() {
    assert_defects(
        page(
            "\n```rust,no_run\n{{#rustdoc_include ../../snippets/server/page.rs}}\n```\n",
        ),
        &[
            "src/server/page.md:13: includes all of snippets/server/page.rs, anchor comments too: name an anchor (there: body, program)",
        ],
    );
}

#[test]
fn an_include_by_another_directive() {
    assert_defects(
        page("\n{{#playground ../../snippets/server/page.rs}}\n"),
        &[
            "src/server/page.md:12: {{#playground}} is not used in this book: show a program by {{#rustdoc_include}}",
        ],
    );
}

#[test]
fn an_empty_block() {
    assert_defects(
        page("\n```toml\n```\n"),
        &["src/server/page.md:12: this block is empty: give it text, or remove it"],
    );
}

#[test]
fn a_block_with_hidden_lines_alone() {
    assert_defects(
        page("\n```rust\n# fn main() {}\n```\n"),
        &["src/server/page.md:12: this block is empty: give it text, or remove it"],
    );
}

#[test]
fn an_ignored_block() {
    assert_defects(
        page("\n```rust,ignore\nfn main() {}\n```\n"),
        &[
            "src/server/page.md:12: `ignore` means that nothing tests this block: let it compile (`rust,no_run`) or run (`rust`)",
        ],
    );
}

#[test]
fn a_block_that_should_fail() {
    assert_defects(
        page("\n```rust,compile_fail\nfn main() {}\n```\n"),
        &[
            "src/server/page.md:12: `rust,compile_fail`: skeptic passes such a block whatever it says. Show the error of a compile-fail test instead, in a `text` block",
        ],
    );
}

#[test]
fn a_fence_without_a_language() {
    assert_defects(
        page("\n```\nlet x = 1;\n```\n"),
        &[
            "src/server/page.md:12: a code block without a language is not tested: say `rust`, or `text` if it is neither code nor data",
        ],
    );
}

#[test]
fn an_unknown_fence() {
    assert_defects(
        page("\n```rs\nfn main() {}\n```\n"),
        &[
            "src/server/page.md:12: unknown fence `rs`: this book knows rust | rust,no_run | console | console,background | sh | toml | json | yaml | ini | http | diff | text",
        ],
    );
}

#[test]
fn a_block_without_main() {
    assert_defects(
        page("\n```rust\nlet x = 1;\n```\n"),
        &[
            "src/server/page.md:12: the block has no `fn main`: add a hidden line `# fn main() {}`, or hidden lines around it that make it run",
        ],
    );
}

#[test]
fn a_line_with_two_hashes() {
    assert_defects(
        page("\n```rust\n## [derive(Debug)]\nfn main() {}\n```\n"),
        &[
            "src/server/page.md:12: a line starts with `##`, which mdBook and skeptic read differently: write it without",
        ],
    );
}

#[test]
fn a_line_of_a_program_that_looks_hidden() {
    let program = PROGRAM.replace("hello", "\n# hello");
    assert_defects(
        book(&[("snippets/server/page.rs", &program)]),
        &[
            "snippets/server/page.rs:5: mdBook hides a line that starts with `# `: write this line differently",
        ],
    );
}

#[test]
fn a_block_that_ends_the_string_of_skeptic() {
    assert_defects(
        page("\n```rust\nfn main() { r####\"a\"####; }\n```\n"),
        &[
            "src/server/page.md:12: the block holds `\"####`, which ends the string that skeptic puts it in: use fewer `#`",
        ],
    );
}

#[test]
fn a_command_that_cannot_be_executed() {
    assert_defects(
        page("\n```console\n$ curl http://127.0.0.1:3000\n$ kubectl get pods\n```\n"),
        &[
            "src/server/page.md:14: `kubectl get pods` cannot be executed: a console block runs `cargo run --bin NAME`, `curl ...` and `echo $?`. Show another command in an `sh` block",
        ],
    );
}

#[test]
fn an_unlisted_page() {
    assert_defects(
        book(&[("src/server/other.md", "# Other\n")]),
        &[
            "src/server/other.md:1: SUMMARY.md does not list this page, so nobody reads it and nothing tests it: add it there",
        ],
    );
}

#[test]
fn a_page_that_is_not_there() {
    let defects = Book::read(book(&[("src/SUMMARY.md", "- [Page](no.md)\n")]).path())
        .expect_err("the page is missing");
    assert_eq!(defects[0].file, "src/SUMMARY.md");
    assert!(defects[0].message.contains("no.md"), "{}", defects[0]);
}

#[test]
fn an_orphan_program() {
    assert_defects(
        book(&[("snippets/server/orphan.rs", "fn main() {}\n")]),
        &[
            "snippets/server/orphan.rs:1: no page shows this program: include it in a page by {{#rustdoc_include}}, or remove it",
            "snippets/server/orphan.rs:1: this program is not compiled: add a `[[bin]]` with its path to snippets/Cargo.toml or, if it needs more crates, to a manifest in snippets/packages/",
        ],
    );
}

/// A package in a folder of snippets/, with a program that does not compile.
const MISTAKE: [(&str, &str); 3] = [
    ("snippets/mistakes/Cargo.toml", "[package]\nname = \"mistakes\"\n"),
    ("snippets/mistakes/server/mistake.rs", "fn main() { 1 }\n"),
    ("snippets/mistakes/server/mistake.stderr", "error[E0308]: mismatched types\n"),
];

#[test]
fn a_program_of_another_package_is_no_orphan() {
    let shown = format!(
        "{PAGE}\n```text\n{{{{#include ../../snippets/mistakes/server/mistake.stderr}}}}\n```\n"
    );
    let page = ("src/server/page.md", shown.as_str());
    let book = book(&[&MISTAKE[..], &[page]].concat());
    let block = &read(book.path()).pages[0].blocks[2];
    assert_eq!(block.text, "error[E0308]: mismatched types\n");
}

#[test]
fn an_error_that_no_page_shows() {
    assert_defects(
        book(&MISTAKE),
        &[
            "snippets/mistakes/server/mistake.stderr:1: no page shows this file: include it in a page by {{#include}}, or remove it and its program",
        ],
    );
}

/// The package of pairs, with bytes that a program sends.
const PAIRS: [(&str, &str); 2] = [
    ("snippets/upgrading/Cargo.toml", "[package]\nname = \"upgrading\"\n"),
    ("snippets/upgrading/wire/answer.http", "HTTP/1.1 200 OK\n"),
];

#[test]
fn bytes_that_no_page_shows() {
    assert_defects(
        book(&PAIRS),
        &[
            "snippets/upgrading/wire/answer.http:1: no page shows this file: include it in a page by {{#include}}, or remove it and its test",
        ],
    );
}

#[test]
fn an_orphan_program_of_a_pair() {
    let orphan = ("snippets/upgrading/before/orphan.rs", "fn main() {}\n");
    assert_defects(
        book(&[PAIRS[0], orphan]),
        &[
            "snippets/upgrading/before/orphan.rs:1: no page shows this program: include it in a page by {{#rustdoc_include}}, or remove it",
            "snippets/upgrading/before/orphan.rs:1: this program is not compiled: add a `[[bin]]` with its path to snippets/Cargo.toml or, if it needs more crates, to a manifest in snippets/packages/",
        ],
    );
}

#[test]
fn a_console_block_that_starts_no_bin() {
    let page = PAGE.to_owned() + "\n```console\n$ cargo run --bin pagge\n```\n";
    let line = page.lines().count() - 1;
    assert_defects(
        book(&[("src/server/page.md", &page)]),
        &[&format!(
            "src/server/page.md:{line}: no package below snippets/ has a bin `pagge`: correct the name, or add the `[[bin]]`"
        )],
    );
}

#[test]
fn an_error_without_its_program() {
    let shown = format!(
        "{PAGE}\n```text\n{{{{#include ../../snippets/mistakes/server/mistake.stderr}}}}\n```\n"
    );
    let page = ("src/server/page.md", shown.as_str());
    assert_defects(
        book(&[MISTAKE[0], MISTAKE[2], page]),
        &[
            "snippets/mistakes/server/mistake.stderr:1: no program beside it gives this error: add the program, or remove the file",
        ],
    );
}

#[test]
fn a_curl_that_does_more_than_ask_the_program() {
    for (command, message) in [
        ("curl -s http://127.0.0.1:3000 | head -1", "has `|`"),
        ("curl http://127.0.0.1:3000 > file", "has `>`"),
        ("curl http://127.0.0.1:3000; id", "has `;`"),
        ("curl http://127.0.0.1:3000 -d $(id)", "has `$`"),
        ("curl http://127.0.0.1:3000 -d \"`id`\"", "has ``"),
        ("curl https://hyper.rs/", "`https://hyper.rs/` is not 127.0.0.1:3000"),
        (
            "curl 'http://127.0.0.10:3000/a?b'",
            "`http://127.0.0.10:3000/a` is not 127.0.0.1:3000",
        ),
        ("curl localhost:3000", "`localhost:3000` is not 127.0.0.1:3000"),
    ] {
        let book = page(&format!("\n```console\n$ {command}\n```\n"));
        let defects = Book::read(book.path()).expect_err(command);
        assert_eq!((defects.len(), defects[0].line), (1, 13), "{defects:?}");
        assert!(defects[0].message.contains(message), "{}", defects[0]);
    }
    read(page("\n```console\n$ curl 'http://127.0.0.1:3000/?a=1&b' -d '1 > 0; $x' -H \"x: $(printf '%070d' 7)\"\n```\n").path());
}

#[test]
fn a_package_that_nothing_builds() {
    assert_defects(
        book(&[("snippets/server/tls/Cargo.toml", "[package]\nname = \"tls\"\n")]),
        &[
            "snippets/server/tls/Cargo.toml:1: no member of the workspace, so nothing builds it: move its folder to snippets/packages/",
        ],
    );
}

#[test]
fn a_manifest_that_cannot_be_read() {
    let book = book(&[("snippets/packages/tls/Cargo.toml", "[package\n")]);
    let defects = Book::read(book.path()).expect_err("the manifest is broken");
    assert_eq!(defects[0].file, "snippets/packages/tls/Cargo.toml");
    assert!(defects[0].message.starts_with("cannot be read: "), "{}", defects[0]);
}
