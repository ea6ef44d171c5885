//! The colours of code: splits it into pieces, and says what each piece is.
//!
//! Done once when the book is built, so that a page has its colours without a script. A piece's
//! kind is the class that tools/site/theme/site.css colours: `k` keyword, `t` type, `f` function,
//! `m` macro, `s` string, `n` number or lifetime, `c` comment or attribute.

use std::sync::LazyLock;

use regex::Regex;

/// A piece of the code, and its kind; none for what is not coloured.
pub type Piece<'a> = (Option<&'static str>, &'a str);

/// The name of a group is the kind of what it matches.
static RUST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r###"(?x)
        (?<c> //.* | (?s:/\*.*?\*/) | \#!?\[[^\]]*\] )
        | (?<s> \b[bc]?r(?:"[^"]*"|\#(?s:".*?")\#|\#\#(?s:".*?")\#\#)
            | (?:\b[bc])?"(?s:\\.|[^"\\])*" | (?:\bb)?'(?:\\[^']+|\\'|[^\\'])' )
        | (?<n> '\w+ | \b\d\w* )
        | \b(?<k> as|async|await|break|const|continue|crate|dyn|else|enum|extern|false|fn|for|if
            |impl|in|let|loop|match|mod|move|mut|pub|ref|return|self|static|struct|super|trait
            |true|type|unsafe|use|where|while )\b
        | \b(?<t> \p{Lu}\w* )
        | \b(?:(?<f> \w+)(?:\(|::<) | (?<m> \w+!)[^=] )
        | \w+"###,
    )
    .unwrap()
});

/// Files of settings and shell commands, which have much in common.
static DATA: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r##"(?xm)
        (?:^|[\ ])(?<c> \#.* )
        | ^[\ -]*(?<t> \[.* )
        | (?<k> "[^"\n]*" | [\w./-]+ )\ *(?:=|:(?:[\ \n]|$))
        | (?<s> "(?:\\.|[^"\\])*" | '[^']*' )
        | (?<n> \b(?:true|false|[\d.]+)\b )
        | [\w./-]+"##,
    )
    .unwrap()
});

/// What is added is as green as a string, what is removed as a number.
static DIFF: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^(?:(?<s>\+.*\n?)|(?<n>-.*\n?))").unwrap());

/// What is typed into a terminal stands out from what is printed.
static CONSOLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^(?<prompt>\$ |\^C$)(?<command>.*)").unwrap());

/// The code in pieces. Joined, they are the code again.
pub fn highlight<'a>(language: &str, code: &'a str) -> Vec<Piece<'a>> {
    let pattern: &'static Regex = match language {
        "rust" => &RUST,
        "toml" | "ini" | "yaml" | "json" | "sh" => &DATA,
        "diff" => &DIFF,
        "console" => &CONSOLE,
        _ => return vec![(None, code)],
    };
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    for found in pattern.captures_iter(code) {
        for kind in pattern.capture_names().flatten() {
            let Some(piece) = found.name(kind) else { continue };
            pieces.push((None, &code[at..piece.start()]));
            pieces.push((Some(kind), piece.as_str()));
            at = piece.end();
        }
    }
    pieces.push((None, &code[at..]));
    pieces
}
