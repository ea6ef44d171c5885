//! The colours of code: splits it into pieces, and says what each piece is.
//!
//! Done once when the book is built, so that a page has its colours without a script. A piece's
//! kind is the class that theme/site.css colours: `k` keyword, `t` type, `f` function or macro,
//! `s` string, `n` number or lifetime, `c` comment or attribute.

/// A piece of the code, and its kind; none for what is not coloured.
pub type Piece<'a> = (Option<&'static str>, &'a str);

const RUST_KEYWORDS: [&str; 37] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else",
    "enum", "extern", "false", "fn", "for", "if", "impl", "in", "let", "loop",
    "match", "mod", "move", "mut", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
];

/// The code in pieces. Joined, they are the code again.
pub fn highlight<'a>(language: &str, code: &'a str) -> Vec<Piece<'a>> {
    let next = match language {
        "rust" => rust,
        "toml" | "ini" | "yaml" | "json" | "sh" => data,
        "diff" => diff,
        _ => return vec![(None, code)],
    };
    let mut pieces: Vec<Piece> = Vec::new();
    // What is not coloured is joined to one piece: from here on.
    let mut plain = 0;
    let mut at = 0;
    while at < code.len() {
        let (kind, length) = next(code, at);
        if let Some(kind) = kind {
            if plain < at {
                pieces.push((None, &code[plain..at]));
            }
            pieces.push((Some(kind), &code[at..at + length]));
            plain = at + length;
        }
        at += length;
    }
    if plain < at {
        pieces.push((None, &code[plain..]));
    }
    pieces
}

/// The kind and the length of the piece of Rust that begins at `at`.
fn rust(code: &str, at: usize) -> (Option<&'static str>, usize) {
    let rest = &code[at..];
    let first = rest.chars().next().unwrap();
    if rest.starts_with("//") {
        return (Some("c"), until(rest, "\n", 0));
    }
    if rest.starts_with("/*") {
        return (Some("c"), until(rest, "*/", 2));
    }
    if rest.starts_with("#[") || rest.starts_with("#![") {
        return (Some("c"), until(rest, "]", 1));
    }
    if first == '"' {
        return (Some("s"), quoted(rest, '"'));
    }
    if first == '\'' {
        let second = rest[1..].chars().next().unwrap_or('\'');
        return if second == '\\' || rest[1 + second.len_utf8()..].starts_with('\'') {
            (Some("s"), quoted(rest, '\''))
        } else {
            (Some("n"), 1 + word(&rest[1..]))
        };
    }
    if first.is_ascii_digit() {
        return (Some("n"), word(rest));
    }
    let length = word(rest);
    if length == 0 {
        return (None, first.len_utf8());
    }
    let (name, after) = rest.split_at(length);
    let kind = match name {
        "r" | "b" | "br" | "c" | "cr" if after.starts_with(['"', '#']) => {
            let fence = after.len() - after.trim_start_matches('#').len();
            let quote = &after[fence..];
            if let Some(inside) = quote.strip_prefix('"') {
                let end = format!("\"{}", &after[..fence]);
                let body = if name.contains('r') {
                    1 + until(inside, &end, end.len())
                } else {
                    quoted(quote, '"')
                };
                return (Some("s"), length + fence + body);
            }
            None
        }
        name if RUST_KEYWORDS.contains(&name) => Some("k"),
        name if name.starts_with(|c: char| c.is_uppercase()) => Some("t"),
        _ if after.starts_with('(') || after.starts_with("::<") => Some("f"),
        _ if after.starts_with('!') && !after.starts_with("!=") => {
            return (Some("f"), length + 1);
        }
        _ => None,
    };
    (kind, length)
}

/// The same for files of settings and for shell commands, which have much in common.
fn data(code: &str, at: usize) -> (Option<&'static str>, usize) {
    let rest = &code[at..];
    let first = rest.chars().next().unwrap();
    let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
    let begins = code[line..at].trim_start_matches([' ', '-']).is_empty();
    if first == '#' && (at == 0 || code[..at].ends_with([' ', '\n'])) {
        return (Some("c"), until(rest, "\n", 0));
    }
    if first == '[' && begins {
        return (Some("t"), until(rest, "\n", 0));
    }
    let key = |length: usize| {
        let after = rest[length..].trim_start_matches(' ');
        after.starts_with('=')
            || after.strip_prefix(':').is_some_and(|after| {
                after.is_empty() || after.starts_with([' ', '\n'])
            })
    };
    if first == '"' || first == '\'' {
        let length = quoted(rest, first);
        return (Some(if key(length) { "k" } else { "s" }), length);
    }
    let not_word = |c: char| !(c.is_alphanumeric() || "_-./".contains(c));
    let length = rest.find(not_word).unwrap_or(rest.len());
    match &rest[..length] {
        "" => (None, first.len_utf8()),
        _ if key(length) => (Some("k"), length),
        "true" | "false" => (Some("n"), length),
        word if word.chars().all(|c| c.is_ascii_digit() || c == '.') => {
            (Some("n"), length)
        }
        _ => (None, length),
    }
}

/// A line of a diff: what is added is as green as a string, what is removed as a number.
fn diff(code: &str, at: usize) -> (Option<&'static str>, usize) {
    let rest = &code[at..];
    let kind = match rest.as_bytes()[0] {
        b'+' => Some("s"),
        b'-' => Some("n"),
        _ => None,
    };
    (kind, until(rest, "\n", 1))
}

/// The length of the name or number at the beginning.
fn word(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// The length up to `end`, and `more` bytes of it.
fn until(text: &str, end: &str, more: usize) -> usize {
    text.find(end).map_or(text.len(), |at| at + more)
}

/// The length of the string at the beginning, quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}
