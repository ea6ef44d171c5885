//! What tools/site/theme/search.js searches, as two scripts: a script loads from a file too, where `fetch`
//! may not. The first is small and comes when the search opens: the titles. The second has the
//! texts, and comes with the first letter that is typed.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::Page;

/// Page by page: its address, its name and its sections, each with its title, and its fragment if that is not
/// the one that mdBook makes of the title.
pub fn titles(pages: &[Page]) -> String {
    let titles = pages.iter().enumerate().map(|(number, page)| {
        let sections = page.content.sections.iter();
        let sections = sections.map(|section| match &section.title {
            title if fragment(title) == section.id => json!(title),
            title => json!([section.id, title]),
        });
        let path = if number == 0 { "index.html" } else { &page.path };
        json!([path, page.title, sections.collect::<Value>()])
    });
    format!("var searchTitles = {};\n", titles.collect::<Value>())
}

/// Of the same sections in the same order: the prose, the code, the identifiers that stand in
/// hidden lines of its page alone, and what readers may call it.
pub fn texts(pages: &[Page]) -> String {
    let texts = pages.iter().flat_map(|page| {
        let sections = &page.content.sections;
        let shown = sections.iter().flat_map(|section| names(&section.code));
        let mut known: HashSet<&str> = shown.collect();
        let texts = sections.iter().map(move |section| {
            let hidden = names(&section.hidden).filter(|name| known.insert(name));
            let hidden: Vec<&str> = hidden.collect();
            json!([
                section.text,
                section.code.trim_end(),
                hidden.join(" "),
                section.also
            ])
        });
        texts.collect::<Vec<Value>>()
    });
    format!("searchTexts({});\n", texts.collect::<Value>())
}

/// The fragment that mdBook makes of a title; tools/site/theme/search.js does the same.
fn fragment(title: &str) -> String {
    let title = title.to_lowercase();
    let kept = title.chars().filter_map(|c| match c {
        c if c.is_whitespace() => Some('-'),
        c => (c.is_alphanumeric() || c == '_' || c == '-').then_some(c),
    });
    kept.collect()
}

/// The identifiers in the code.
fn names(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| {
        word.len() > 2 && !word.starts_with(|c: char| c.is_ascii_digit())
    })
}
