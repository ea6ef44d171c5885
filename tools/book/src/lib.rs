//! Reads the book the way mdBook renders it.
//!
//! [`Book::read`] loads the book with mdBook's own library, expands its includes, and hands out
//! every code block with the text that the site shows, hidden lines included, and the place in
//! the sources where that text was written. It is strict where mdBook is lenient: what mdBook
//! would only log, or silently leave out, is a [`Defect`] here. To add a rule, add it to
//! `blocks` (a rule about one block) or to `programs` and `outputs` (rules about snippets/), and a broken
//! page to `tests/defects.rs` that shows its message.

mod console;
mod prose;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use mdbook_driver::MDBook;
use mdbook_driver::book::BookItem;
use mdbook_driver::builtin_renderers::MarkdownRenderer;
use mdbook_markdown::pulldown_cmark::{CodeBlockKind, Event, Tag, TagEnd};
use mdbook_markdown::{MarkdownOptions, new_cmark_parser};
use regex::Regex;

pub use console::{Action, Console, Step};
pub use prose::{Prose, numbers};

/// The fences that a page may use. The first word names the language, the rest says what is done
/// with the block.
const FENCES: [&str; 12] = [
    "rust",
    "rust,no_run",
    "console",
    "console,background",
    "sh",
    "toml",
    "json",
    "yaml",
    "ini",
    "http",
    "diff",
    "text",
];

static DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{\s*#\s*([a-z_]+)\s+([^}]*?)\s*\}\}").unwrap());
static ANCHOR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"ANCHOR(?:_END)?:\s*([\w-]+)").unwrap());

/// A whole book without defects: the pages that SUMMARY.md lists, in its order.
#[derive(Debug)]
pub struct Book {
    pub pages: Vec<Page>,
}

/// One page of the book.
#[derive(Debug)]
pub struct Page {
    /// The path from the root of the repository, `src/server/echo.md`.
    pub path: String,
    /// The Markdown as it was written, before mdBook expands it.
    pub source: String,
    /// The code blocks of the page, from top to bottom.
    pub blocks: Vec<Block>,
}

/// One fenced code block.
#[derive(Debug)]
pub struct Block {
    /// The page it stands on, `src/server/echo.md`.
    pub page: String,
    /// The line of its fence in the page, counted from 1.
    pub line: usize,
    /// The whole info string, `rust,no_run`.
    pub fence: String,
    /// What mdBook renders: includes expanded, hidden lines still behind their `# `.
    pub text: String,
    /// The file where the text was written: the page, or the program that it includes.
    pub origin: String,
    /// The text without the `# ` of hidden lines. Padded with blank lines so that each line has
    /// the number that it has in `origin`.
    pub program: String,
}

impl Block {
    /// The name of the test that holds this block true: page and line,
    /// `server_echo_line_42` for the block at `src/server/echo.md:42`.
    pub fn test_name(&self) -> String {
        format!("{}_line_{}", self.page_name(), self.line)
    }

    /// The page as a Rust identifier, `server_echo` for `src/server/echo.md`.
    pub fn page_name(&self) -> String {
        name(&self.page)
    }

    /// Whether it is a block of Rust, which becomes a doctest.
    pub fn is_rust(&self) -> bool {
        self.fence.starts_with("rust")
    }

    /// The lines that readers see.
    pub fn shown(&self) -> String {
        self.lines(|line| self.hidden(line).is_none().then_some(line))
    }

    /// All lines, as "Copy whole program" copies them.
    pub fn whole(&self) -> String {
        self.lines(|line| self.hidden(line).or(Some(line)))
    }

    fn hidden<'a>(&self, line: &'a str) -> Option<&'a str> {
        if self.is_rust() { hidden(line) } else { None }
    }

    fn lines<'a>(&'a self, line: impl Fn(&'a str) -> Option<&'a str>) -> String {
        self.text.lines().filter_map(line).flat_map(|line| [line, "\n"]).collect()
    }
}

/// Something wrong in the sources of the book: where, what, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Defect {
    /// The path from the root of the repository.
    pub file: String,
    /// The line in that file, counted from 1.
    pub line: usize,
    /// What is wrong; and what to do about it.
    pub message: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl Book {
    /// Reads the book in `root`, the folder of book.toml.
    ///
    /// # Errors
    ///
    /// Every defect of the book, sorted by file and line.
    pub fn read(root: &Path) -> Result<Book, Vec<Defect>> {
        let summary = |message: String| {
            vec![Defect { file: "src/SUMMARY.md".to_owned(), line: 1, message }]
        };
        let mut defects = Defects::default();
        let source =
            MDBook::load(root).map_err(|error| summary(format!("{error:#}")))?;
        // Includes of missing files and anchors are looked for in the page, before mdBook
        // replaces them by nothing: its own report is only a line in its log.
        let mut pages = Vec::new();
        for (path, source) in chapters(source.iter()) {
            defects.directives(root, &path, &source);
            pages.push((path, source));
        }
        defects.unlisted(root, &pages);
        let (rendered, _) = source
            .preprocess_book(&MarkdownRenderer::new())
            .map_err(|error| summary(format!("{error:#}")))?;
        let pages: Vec<Page> = pages
            .into_iter()
            .zip(chapters(rendered.iter()))
            .map(|((path, source), (_, rendered))| {
                let blocks = defects.blocks(root, &path, &source, &rendered);
                Page { path, source, blocks }
            })
            .collect();
        defects.programs(root, &pages);
        defects.outputs(root, &pages);
        if defects.0.is_empty() {
            Ok(Book { pages })
        } else {
            Err(defects.0.into_iter().collect())
        }
    }

    /// The code blocks of all pages, in the order of the book.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.pages.iter().flat_map(|page| &page.blocks)
    }
}

impl Page {
    /// The page as a Rust identifier, `server_echo` for `src/server/echo.md`.
    pub fn name(&self) -> String {
        name(&self.path)
    }

    /// The console blocks of the page, parsed, from top to bottom.
    pub fn consoles(&self) -> Vec<Console> {
        let consoles =
            self.blocks.iter().filter(|block| block.fence.starts_with("console"));
        consoles
            .map(|block| Console::parse(block).expect("Book::read has parsed it"))
            .collect()
    }

    /// The links of the page: the line of each, and where it points to.
    pub fn links(&self) -> Vec<(usize, String)> {
        parse(&self.source)
            .filter_map(|(event, at)| match event {
                Event::Start(
                    Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. },
                ) => Some((line_at(&self.source, at.start), dest_url.into_string())),
                _ => None,
            })
            .collect()
    }
}

fn name(page: &str) -> String {
    let page = page.trim_start_matches("src/").trim_end_matches(".md");
    page.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_lowercase()
}

/// Whether a program has a `fn main`. One without has `#[test]` functions, and the main of libtest.
pub fn has_main(program: &str) -> bool {
    static MAIN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bfn main\s*\(").unwrap());
    MAIN.is_match(program)
}

/// Whether a program holds tests.
fn has_tests(program: &str) -> bool {
    static TEST: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"#\[(\w+::)?test\b").unwrap());
    TEST.is_match(program)
}

/// The programs of the book: the `[[bin]]`s and `[[test]]`s of each manifest below snippets/.
pub fn bins(root: &Path) -> Result<Vec<Bin>, Defect> {
    let mut all = Vec::new();
    for manifest in files(root, "snippets", "toml") {
        if !manifest.ends_with("/Cargo.toml") {
            continue;
        }
        let text = fs::read_to_string(root.join(&manifest));
        let home = ["snippets/Cargo.toml", "snippets/mistakes/Cargo.toml"]
            .contains(&&*manifest)
            || manifest.starts_with("snippets/packages/")
            || manifest.starts_with("snippets/upgrading/");
        if !home {
            let message = "no member of the workspace, so nothing builds it: move its folder to snippets/packages/";
            return Err(Defect {
                file: manifest,
                line: 1,
                message: message.to_owned(),
            });
        }
        let table = text.map_err(|error| error.to_string()).and_then(|text| {
            text.parse::<toml::Table>().map_err(|error| error.to_string())
        });
        let table = table.map_err(|error| Defect {
            file: manifest.clone(),
            line: 1,
            message: format!("cannot be read: {error}"),
        })?;
        for kind in ["bin", "test"] {
            let targets = table.get(kind).and_then(toml::Value::as_array);
            for target in targets.into_iter().flatten() {
                let text = |key| target.get(key).and_then(toml::Value::as_str);
                let (Some(name), Some(path)) = (text("name"), text("path")) else {
                    let message =
                        format!("a [[{kind}]] without name and path: {target}");
                    return Err(Defect { file: manifest, line: 1, message });
                };
                all.push(Bin {
                    name: name.to_owned(),
                    path: resolve(&manifest, path),
                    runs: kind == "bin",
                    tested: target.get("test") != Some(&toml::Value::Boolean(false)),
                });
            }
        }
    }
    Ok(all)
}

/// The version of each crate in Cargo.lock, the newest if there are several.
pub fn locked(root: &Path) -> BTreeMap<String, String> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).expect("Cargo.lock");
    let lock: toml::Table = lock.parse().expect("Cargo.lock is TOML");
    let packages = lock["package"].as_array().expect("Cargo.lock lists packages");
    let text = |package: &toml::Value, key| package[key].as_str().unwrap().to_owned();
    packages.iter().map(|it| (text(it, "name"), text(it, "version"))).collect()
}

/// A program of the book.
pub struct Bin {
    pub name: String,
    /// The path from the root of the repository, `snippets/server/echo.rs`.
    pub path: String,
    /// Whether it is a `[[bin]]`, which a page can start, and not a `[[test]]`.
    pub runs: bool,
    /// Whether `cargo test` runs the tests in it.
    pub tested: bool,
}

#[derive(Default)]
struct Defects(BTreeSet<Defect>);

impl Defects {
    fn add(&mut self, file: &str, line: usize, message: impl Into<String>) {
        self.0.insert(Defect {
            file: file.to_owned(),
            line,
            message: message.into(),
        });
    }

    /// The `{{#...}}` of a page: each must name a file and an anchor that exist.
    fn directives(&mut self, root: &Path, page: &str, source: &str) {
        for found in DIRECTIVE.captures_iter(source) {
            let line = line_at(source, found.get(0).unwrap().start());
            let (kind, argument) = (&found[1], &found[2]);
            if kind == "title" {
                continue;
            }
            if kind != "include" && kind != "rustdoc_include" {
                self.add(page, line, format!("{{{{#{kind}}}}} is not used in this book: show a program by {{{{#rustdoc_include}}}}"));
                continue;
            }
            let (file, anchor) = argument.split_once(':').unwrap_or((argument, ""));
            let path = resolve(page, file);
            let Ok(text) = fs::read_to_string(root.join(&path)) else {
                self.add(page, line, format!("there is no file {path} to include: correct the path, which starts at the folder of the page"));
                continue;
            };
            let anchors: BTreeSet<&str> = ANCHOR
                .captures_iter(&text)
                .map(|found| found.get(1).unwrap().as_str())
                .collect();
            let of = |pattern| {
                text.lines().filter_map(move |line: &str| line.split_once(pattern))
            };
            let begun: BTreeSet<&str> =
                of("ANCHOR: ").map(|(_, name)| name.trim()).collect();
            let ended: BTreeSet<&str> =
                of("ANCHOR_END: ").map(|(_, name)| name.trim()).collect();
            for name in begun.symmetric_difference(&ended) {
                let message = if begun.contains(name) {
                    format!(
                        "anchor `{name}` has no end, so a page shows all that follows: add `ANCHOR_END: {name}`"
                    )
                } else {
                    format!("`ANCHOR_END: {name}` ends no anchor: correct the name")
                };
                let at = text
                    .lines()
                    .position(|line| line.ends_with(&format!(": {name}")));
                self.add(&path, at.map_or(1, |at| at + 1), message);
            }
            let known = || {
                let known: Vec<_> = anchors.iter().copied().collect();
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            };
            if anchor.starts_with(|c: char| c.is_ascii_digit() || c == ':') {
                self.add(page, line, format!("includes lines of {path} by number, which drift: name an anchor (there: {})", known()));
            } else if anchor.is_empty() && path.ends_with(".rs") {
                self.add(page, line, format!("includes all of {path}, anchor comments too: name an anchor (there: {})", known()));
            } else if !anchor.is_empty() && !anchors.contains(anchor) {
                self.add(page, line, format!("{path} has no anchor `{anchor}` (there: {}): correct the name, or add `// ANCHOR: {anchor}` and `// ANCHOR_END: {anchor}`", known()));
            }
        }
    }

    /// Each Markdown file in src/ must be a page of the book.
    fn unlisted(&mut self, root: &Path, pages: &[(String, String)]) {
        for file in files(root, "src", "md") {
            // mdBook renders 404.md without it being listed.
            if !["src/SUMMARY.md", "src/404.md"].contains(&&*file)
                && !pages.iter().any(|(path, _)| *path == file)
            {
                self.add(&file, 1, "SUMMARY.md does not list this page, so nobody reads it and nothing tests it: add it there");
            }
        }
    }

    /// The code blocks of a page, their text as rendered and their lines as written.
    fn blocks(
        &mut self,
        root: &Path,
        page: &str,
        source: &str,
        rendered: &str,
    ) -> Vec<Block> {
        if self.0.iter().any(|defect| defect.file == page) {
            // An include is broken: what mdBook makes of it is not worth a look.
            return Vec::new();
        }
        let written = code_blocks(source);
        let shown = code_blocks(rendered);
        if written.len() != shown.len() {
            self.add(page, 1, "a file that this page includes has code fences of its own: include code, not Markdown");
            return Vec::new();
        }
        let mut blocks = Vec::new();
        for (written, shown) in written.into_iter().zip(shown) {
            let CodeBlock { line, fence, text: raw } = written;
            let text = shown.text;
            let before = self.0.len();
            if fence.contains("ignore") {
                self.add(page, line, "`ignore` means that nothing tests this block: let it compile (`rust,no_run`) or run (`rust`)");
            } else if fence.contains("compile_fail") || fence.contains("should_panic")
            {
                self.add(page, line, format!("`{fence}`: skeptic passes such a block whatever it says. Show the error of a compile-fail test instead, in a `text` block"));
            } else if fence.is_empty() {
                self.add(page, line, "a code block without a language is not tested: say `rust`, or `text` if it is neither code nor data");
            } else if !FENCES.contains(&fence.as_str()) {
                self.add(
                    page,
                    line,
                    format!(
                        "unknown fence `{fence}`: this book knows {}",
                        FENCES.join(" | ")
                    ),
                );
            }
            let rust = fence.starts_with("rust");
            let blank =
                |line: &str| line.trim().is_empty() || rust && hidden(line).is_some();
            if text.lines().all(blank) {
                self.add(
                    page,
                    line,
                    "this block is empty: give it text, or remove it",
                );
            }
            let mut block = Block {
                page: page.to_owned(),
                line,
                origin: page.to_owned(),
                program: String::new(),
                fence,
                text,
            };
            if self.0.len() > before {
                continue;
            }
            if block.is_rust() {
                self.rust(root, &mut block, &raw);
            } else if block.fence.starts_with("console")
                && let Err((line, message)) = Console::parse(&block)
            {
                self.add(page, line, message);
            }
            if self.0.len() == before {
                blocks.push(block);
            }
        }
        blocks
    }

    /// Fills in the program of a Rust block, and where it was written.
    fn rust(&mut self, root: &Path, block: &mut Block, raw: &str) {
        let included = DIRECTIVE
            .captures(raw.trim())
            .filter(|found| &found[1] == "rustdoc_include" && found[0] == *raw.trim())
            .map(|found| resolve(&block.page, found[2].split(':').next().unwrap()))
            .and_then(|path| {
                Some((fs::read_to_string(root.join(&path)).ok()?, path))
            });
        let mut lines = block.text.lines();
        let mut program: Vec<&str> = Vec::new();
        if let Some((source, path)) = included {
            for (index, line) in source.lines().enumerate() {
                if hidden(line).is_some() {
                    self.add(&path, index + 1, "mdBook hides a line that starts with `# `: write this line differently");
                }
                // mdBook leaves the anchor comments out. A blank line in the place of each
                // keeps the numbers of the other lines.
                let shown = if ANCHOR.is_match(line) {
                    ""
                } else {
                    lines.next().unwrap_or("")
                };
                program.push(hidden(shown).unwrap_or(shown));
            }
            block.origin = path;
        } else {
            program.resize(block.line, "");
            for line in lines {
                if line.trim_start().starts_with("##") {
                    self.add(&block.page, block.line, "a line starts with `##`, which mdBook and skeptic read differently: write it without");
                }
                program.push(hidden(line).unwrap_or(line));
            }
        }
        block.program = program.join("\n") + "\n";
        if block.program.contains("\"####") {
            self.add(&block.page, block.line, "the block holds `\"####`, which ends the string that skeptic puts it in: use fewer `#`");
        }
        if !has_main(&block.program) && !has_tests(&block.program) {
            self.add(&block.page, block.line, "the block has no `fn main`: add a hidden line `# fn main() {}`, or hidden lines around it that make it run");
        }
    }

    /// Each program must be a bin, and each must be shown on a page. So must a bin that a page starts.
    fn programs(&mut self, root: &Path, pages: &[Page]) {
        let bins = match bins(root) {
            Ok(bins) => bins,
            Err(defect) => {
                self.0.insert(defect);
                return;
            }
        };
        for file in files(root, "snippets", "rs") {
            // Tests, programs that must not compile, and the facade that renames hyper 0.14.
            let apart = [
                "snippets/tests/",
                "snippets/mistakes/",
                "snippets/upgrading/hyper_014/",
            ];
            if apart.iter().any(|folder| file.starts_with(folder)) {
                continue;
            }
            let source = fs::read_to_string(root.join(&file)).unwrap_or_default();
            match bins.iter().find(|bin| bin.path == file) {
                None if has_main(&source) => self.add(&file, 1, "this program is not compiled: add a `[[bin]]` with its path to snippets/Cargo.toml or, if it needs more crates, to a manifest in snippets/packages/"),
                None => self.add(&file, 1, "this file is not compiled, and has no `fn main`: if it holds tests, add a `[[test]]` with its path to a manifest in snippets/packages/"),
                Some(bin) if !bin.tested && has_tests(&source) => self.add(&file, 1, "nobody runs the tests in this file: its manifest says `test = false`, remove that"),
                Some(_) => {}
            }
            if !shown(pages, &file) {
                self.add(&file, 1, "no page shows this program: include it in a page by {{#rustdoc_include}}, or remove it");
            }
        }
        for file in files(root, "snippets/tests", "") {
            let name =
                file.trim_start_matches("snippets/tests/").trim_end_matches(".rs");
            let of = |page: &Page| {
                let page =
                    page.path.trim_start_matches("src/").trim_end_matches(".md");
                page.replace('-', "_") == name
                    || name.starts_with(&format!("{page}/"))
            };
            if !file.ends_with(".rs") {
                self.add(&file, 1, "no test: cargo builds `.rs` files here; rename it, or move it out of snippets/tests");
            } else if !pages.iter().any(of) {
                self.add(&file, 1, format!("the book has no page src/{}.md: name the tests of a page like the page", name.replace('_', "-")));
            }
        }
        for page in pages {
            for step in page.consoles().iter().flat_map(|console| &console.steps) {
                if let Action::Start { bin, .. } | Action::Run { bin, .. } =
                    &step.action
                    && !bins.iter().any(|known| known.runs && known.name == *bin)
                {
                    self.add(&page.path, step.line - 1, format!("no package below snippets/ has a bin `{bin}`: correct the name, or add the `[[bin]]`"));
                }
            }
        }
        for file in files(root, "snippets/mistakes", "stderr") {
            if !root.join(&file).with_extension("rs").exists() {
                self.add(&file, 1, "no program beside it gives this error: add the program, or remove the file");
            }
        }
    }

    /// Each error of the compiler must be shown on a page, and so must all that the programs of
    /// snippets/upgrading send.
    fn outputs(&mut self, root: &Path, pages: &[Page]) {
        for (folder, ending, source) in [
            ("snippets/mistakes", "stderr", "its program"),
            ("snippets/upgrading/wire", "diff", "its test"),
            ("snippets/upgrading/wire", "http", "its test"),
            ("snippets/upgrading/wire", "txt", "its test"),
        ] {
            for file in files(root, folder, ending) {
                if !shown(pages, &file) {
                    self.add(&file, 1, format!("no page shows this file: include it in a page by {{{{#include}}}}, or remove it and {source}"));
                }
            }
        }
    }
}

/// Whether a page includes this file.
fn shown(pages: &[Page], file: &str) -> bool {
    pages.iter().any(|page| {
        let mut directives = DIRECTIVE.captures_iter(&page.source);
        directives.any(|found| {
            resolve(&page.path, found[2].split(':').next().unwrap()) == file
        })
    })
}

/// What a hidden line holds: the text behind its `# `, indentation kept. None for a line that
/// readers see. Only Rust has hidden lines.
pub fn hidden(line: &str) -> Option<&str> {
    let text = line.trim_start();
    if text == "#" { Some("") } else { text.strip_prefix("# ") }
}

struct CodeBlock {
    line: usize,
    fence: String,
    text: String,
}

fn code_blocks(markdown: &str) -> Vec<CodeBlock> {
    let mut blocks: Vec<CodeBlock> = Vec::new();
    let mut open = false;
    for (event, at) in parse(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let fence = match kind {
                    CodeBlockKind::Fenced(fence) => fence.replace(' ', ""),
                    CodeBlockKind::Indented => String::new(),
                };
                let line = line_at(markdown, at.start);
                blocks.push(CodeBlock { line, fence, text: String::new() });
                open = true;
            }
            Event::Text(text) if open => {
                blocks.last_mut().unwrap().text.push_str(&text)
            }
            Event::End(TagEnd::CodeBlock) => open = false,
            _ => {}
        }
    }
    blocks
}

fn parse(
    markdown: &str,
) -> impl Iterator<Item = (Event<'_>, std::ops::Range<usize>)> {
    new_cmark_parser(markdown, &MarkdownOptions::default()).into_offset_iter()
}

/// The line, counted from 1, of the byte `at`.
fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The path from the root of the repository of a file that `page` includes or links to, as it is
/// written there: relative to the folder of the page.
pub fn resolve(page: &str, file: &str) -> String {
    let mut path = PathBuf::new();
    for part in Path::new(page).parent().unwrap().join(file).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    slashed(&path)
}

/// The files below `root/folder` with this ending, or with any if it is empty, as paths from the root, sorted.
fn files(root: &Path, folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        // A book has no need of each folder; what is there must be readable.
        if !folder.exists() {
            continue;
        }
        let entries: Result<Vec<_>, _> =
            fs::read_dir(&folder).and_then(Iterator::collect);
        let entries = entries.unwrap_or_else(|error| {
            panic!("{}: cannot be read: {error}", folder.display())
        });
        for path in entries.iter().map(fs::DirEntry::path) {
            if path.is_dir() {
                folders.push(path);
            } else if ending.is_empty()
                || path.extension().is_some_and(|extension| extension == ending)
            {
                found.push(slashed(path.strip_prefix(root).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The chapters of a book that have a page: its path from the root, and its text.
fn chapters<'a>(
    items: impl Iterator<Item = &'a BookItem>,
) -> impl Iterator<Item = (String, String)> {
    items.filter_map(|item| match item {
        BookItem::Chapter(chapter) => {
            let path = Path::new("src").join(chapter.source_path.as_ref()?);
            Some((slashed(&path), chapter.content.clone()))
        }
        _ => None,
    })
}

fn slashed(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}
