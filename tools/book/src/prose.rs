//! The numbers in the prose, and the tests that read them.
//!
//! A sentence such as "a client has 30 seconds" is a promise. The test that checks it reads the number
//! from the sentence, by `page("server/hello-world").number("a client has {} seconds")`, so the two
//! cannot differ. [`numbers`] finds the numbers that no test reads; [`since`] holds the releases behind
//! "since hyper 1.6" to one list.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use mdbook_markdown::pulldown_cmark::{Event, Tag, TagEnd};
use regex::Regex;

use crate::{Book, DIRECTIVE, Defect, Page, files, line_at, parse};

/// What a page says, as readers see it: without markup and without its code blocks. White space is one
/// space; cells of a table are separated by ` | `, and each paragraph, item or row is a line.
#[derive(Debug, Default)]
pub struct Prose {
    pub text: String,
    /// The line in the page of each piece of the text, which begins at this byte.
    lines: Vec<(usize, usize)>,
    /// Names and citations: inline code, and the words of links to other sites.
    cited: Vec<Range<usize>>,
}

/// A number in a sentence: digits with `,` between thousands, or a word up to twenty.
const NUMBER: &str = r"\d+(?:,\d{3})*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty";

/// The value of what [`NUMBER`] matches.
fn value(number: &str) -> u64 {
    let words = NUMBER.split('|').skip(1);
    match words.into_iter().position(|word| word == number.to_lowercase()) {
        Some(index) => index as u64 + 2,
        None => number.replace(',', "").parse().expect("digits"),
    }
}

impl Prose {
    pub fn of(page: &Page) -> Prose {
        let mut prose = Prose::default();
        let (mut code, mut link) = (false, None);
        for (event, at) in parse(&page.source) {
            let line = line_at(&page.source, at.start);
            match event {
                Event::Start(Tag::CodeBlock(_)) => code = true,
                Event::End(TagEnd::CodeBlock) => code = false,
                Event::Start(Tag::Link { dest_url, .. }) => {
                    let elsewhere =
                        dest_url.contains("://") && !dest_url.contains("//docs.rs/");
                    link = elsewhere.then_some(prose.text.len());
                }
                Event::End(TagEnd::Link) => {
                    prose
                        .cited
                        .extend(link.take().map(|start| start..prose.text.len()));
                }
                Event::Text(text) if !code => {
                    prose.push(&DIRECTIVE.replace_all(&text, ""), line);
                }
                Event::Code(text) => {
                    let start = prose.text.len();
                    prose.push(&text, line);
                    prose.cited.push(start..prose.text.len());
                }
                Event::SoftBreak | Event::HardBreak => prose.push(" ", line),
                Event::End(TagEnd::TableCell) => prose.push(" | ", line),
                Event::End(
                    TagEnd::Paragraph
                    | TagEnd::Item
                    | TagEnd::TableRow
                    | TagEnd::TableHead
                    | TagEnd::Heading(_),
                ) => prose.text.push('\n'),
                _ => {}
            }
        }
        prose
    }

    fn push(&mut self, text: &str, line: usize) {
        self.lines.push((self.text.len(), line));
        for c in text.chars() {
            if !c.is_whitespace() {
                self.text.push(c);
            } else if !self.text.ends_with(char::is_whitespace) {
                self.text.push(' ');
            }
        }
    }

    fn line(&self, at: usize) -> usize {
        self.lines
            .iter()
            .rfind(|(start, _)| *start <= at)
            .map_or(1, |(_, line)| *line)
    }

    /// The numbers at the `{}` of the first sentence like this, and where they stand. None where the
    /// page says no such thing.
    pub fn find(&self, sentence: &str) -> Option<Vec<(u64, Range<usize>)>> {
        let found = pattern(sentence).captures(&self.text)?;
        let numbers = found.iter().skip(1).flatten();
        Some(numbers.map(|number| (value(number.as_str()), number.range())).collect())
    }
}

/// Matches the sentence, with a number at each `{}`.
fn pattern(sentence: &str) -> Regex {
    let words: Vec<_> = sentence.split_whitespace().map(regex::escape).collect();
    let number = format!("((?i:{NUMBER}))");
    Regex::new(&words.join(r"\s+").replace(r"\{\}", &number)).unwrap()
}

/// What looks like a number of a program and is a name: of a protocol, a document, a release, a status,
/// a step of the page.
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"HTTP/\d(\.\d)?|TLS \d(\.\d)?|IPv\d|UTF-\d+|RFC \d+|[Ss]ections? \d[\d.]*|#\d+|[Ss]teps? (\d|two|three|four)\b",
        r"|\b(hyper|hyper-util|http-body-util|http|h2|tokio|tower|rustls|Rust|edition|Kubernetes|Linux|mdBook|nginx|Go|status|process|SIGKILL|descriptor) \d[\d.]*\b",
        r"|\b0\.14(\.\d+)?( (to|and|or|than|from) 1\b)?|\b0\.[12]\b|(on|of|to|in|from) (0\.14|1)\b|\bhttp 0\.2 (and|beside) 1\b",
        r"|\b[1-5]\d\d\b",
    ))
    .unwrap()
});

/// What is counted or measured: a number, and a unit where it is a word or could be a status.
static MEASURE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"\b(?P<digits>\d+(?:[,.]\d+)*)\b|\b(?P<word>(?i:{NUMBER}))(?:-| )(?:more )?(?:ms|seconds?|minutes?|hours?|days?|bytes?|frames?|times|requests|responses|connections|clients|streams|tasks|threads|headers|attempts)\b"
    ))
    .unwrap()
});
static UNIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:-| | more )?(?:ms|s|µs|seconds?|minutes?|hours?|%|B|kB|KiB|MB|MiB|GB|bytes?|frames?|times|requests|responses|connections|clients|streams|tasks|threads|headers)\b").unwrap()
});

/// The sentences that the tests read, with the page of each: `snippets/tests/**.rs` and `tests/*.rs` call
/// `page("PAGE")` and, on that, `number("SENTENCE")`, `numbers("SENTENCE")` or `says("SENTENCE")`.
fn read_by_tests(root: &Path) -> Vec<(String, usize, Vec<String>, String)> {
    let page = Regex::new(r#"\bpage\(\s*"([^"]+)"\s*\)"#).unwrap();
    let call = Regex::new(
        r#"\.(?:numbers?|says)(?:::<[^>]*>)?\(\s*"((?:[^"\\]|\\.|\\\n)*)""#,
    )
    .unwrap();
    let folded = Regex::new(r"\\\n\s*").unwrap();
    let mut all = Vec::new();
    let tests = files(root, "tests", "rs").into_iter().chain(files(
        root,
        "snippets/tests",
        "rs",
    ));
    for file in tests {
        let source = fs::read_to_string(root.join(&file))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let pages: BTreeSet<String> = page
            .captures_iter(&source)
            .map(|found| format!("src/{}.md", &found[1]))
            .collect();
        for found in call.captures_iter(&source) {
            let sentence = folded.replace_all(&found[1], "").replace("\\\"", "\"");
            let line = line_at(&source, found.get(0).unwrap().start());
            all.push((file.clone(), line, pages.iter().cloned().collect(), sentence));
        }
    }
    all
}

/// The numbers in the prose that no test reads, and the tests that read what no page says.
pub fn numbers(root: &Path, book: &Book) -> Vec<Defect> {
    let mut defects = Vec::new();
    let prose: Vec<(&str, Prose)> =
        book.pages.iter().map(|page| (&*page.path, Prose::of(page))).collect();
    let mut read: Vec<BTreeSet<(usize, usize)>> = vec![BTreeSet::new(); prose.len()];
    for (file, line, pages, sentence) in read_by_tests(root) {
        let mut said = false;
        for (index, (path, prose)) in prose.iter().enumerate() {
            if !pages.iter().any(|page| page == path) {
                continue;
            }
            for found in pattern(&sentence).captures_iter(&prose.text) {
                said = true;
                let numbers = found.iter().skip(1).flatten();
                read[index]
                    .extend(numbers.map(|number| (number.start(), number.end())));
            }
        }
        if !said && pages.is_empty() {
            let message = format!(
                "this test reads `{sentence}`, and its file names no page: write page(\"TOPIC/NAME\"), with the name itself"
            );
            defects.push(Defect { file, line, message });
        } else if !said {
            let pages = pages.join(" or ");
            let message = format!(
                "{pages} no longer says `{sentence}`: this test relies on it, so change the test with the page"
            );
            defects.push(Defect { file, line, message });
        }
    }
    for ((path, prose), read) in prose.iter().zip(&read) {
        let names: Vec<Range<usize>> =
            NAME.find_iter(&prose.text).map(|name| name.range()).collect();
        for found in MEASURE.captures_iter(&prose.text) {
            let number = found.name("digits").or(found.name("word")).unwrap();
            let inside = |range: &Range<usize>| {
                range.start <= number.start() && number.end() <= range.end
            };
            let measured = UNIT.is_match(&prose.text[number.end()..]);
            let status = number.len() == 3 && measured;
            if read
                .iter()
                .any(|(start, end)| *start < number.end() && number.start() < *end)
                || prose.cited.iter().any(inside)
                || !status && names.iter().any(inside)
            {
                continue;
            }
            let near =
                |index: usize| prose.text[..index].rfind('\n').map_or(0, |at| at + 1);
            let start = near(number.start());
            let end = prose.text[number.end()..]
                .find('\n')
                .map_or(prose.text.len(), |at| number.end() + at);
            let sentence: String = prose.text[start..end].to_owned();
            let around = shorten(&sentence, number.start() - start);
            defects.push(Defect {
                file: (*path).to_owned(),
                line: prose.line(number.start()),
                message: format!(
                    "no test reads the number {} in `{around}`: let the test that checks it read it, by page({:?}).number(\"…{{}}…\"), or link the source that it is cited from",
                    number.as_str(),
                    path.trim_start_matches("src/").trim_end_matches(".md"),
                ),
            });
        }
    }
    defects.extend(since(root, &prose));
    defects.sort();
    defects
}

/// Some words on both sides of a byte of the text.
fn shorten(text: &str, at: usize) -> String {
    let start = text[..at]
        .char_indices()
        .rev()
        .filter(|(_, c)| *c == ' ')
        .nth(5)
        .map_or(0, |(at, _)| at + 1);
    let end = text[at..]
        .char_indices()
        .filter(|(_, c)| *c == ' ')
        .nth(5)
        .map_or(text.len(), |(end, _)| at + end);
    text[start..end].to_owned()
}

/// Where a page says "since hyper 1.6", snippets/since.toml knows the sentence and the release.
fn since(root: &Path, prose: &[(&str, Prose)]) -> Vec<Defect> {
    const LIST: &str = "snippets/since.toml";
    // Without the file there is no release in it.
    let list = fs::read_to_string(root.join(LIST)).unwrap_or_default();
    let mut defects = Vec::new();
    let mut known: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); prose.len()];
    let table: toml::Table = match list.parse() {
        Ok(table) => table,
        Err(error) => {
            let message = format!("is not TOML: {error}");
            return vec![Defect { file: LIST.to_owned(), line: 1, message }];
        }
    };
    for (release, sentences) in &table {
        for sentence in
            sentences.as_array().into_iter().flatten().filter_map(toml::Value::as_str)
        {
            let words: Vec<_> =
                sentence.split_whitespace().map(regex::escape).collect();
            let said = words
                .join(r"\s+")
                .replace(r"\{\}", &format!("({})", regex::escape(release)));
            let said = Regex::new(&said).unwrap();
            let mut found = false;
            for (index, (_, prose)) in prose.iter().enumerate() {
                for at in said.captures_iter(&prose.text).filter_map(|at| at.get(1)) {
                    known[index].insert(at.start());
                    found = true;
                }
            }
            if !found {
                let line = list.find(sentence).map_or(1, |at| line_at(&list, at));
                let message = format!(
                    "no page says `{}`: change the list with the page, and a release only with its changelog",
                    sentence.replace("{}", release)
                );
                defects.push(Defect { file: LIST.to_owned(), line, message });
            }
        }
    }
    let since = Regex::new(r"\b[Ss]ince ((?:hyper|hyper-util|http-body-util|http|h2|tokio|Rust) \d+(?:\.\d+)+)").unwrap();
    for ((path, prose), known) in prose.iter().zip(&known) {
        for found in since.captures_iter(&prose.text) {
            let release = found.get(1).unwrap();
            if !known.contains(&release.start()) {
                defects.push(Defect {
                    file: (*path).to_owned(),
                    line: prose.line(release.start()),
                    message: format!("{LIST} does not know this sentence with {}: correct the release, or add the sentence there", release.as_str()),
                });
            }
        }
    }
    defects
}
