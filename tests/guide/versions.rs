//! The versions of the book are those of Cargo.lock. `SNAPSHOTS=overwrite cargo test versions`
//! writes the locked versions into the pages and the README.

use std::fs;

use harness::{root, the_book};
use regex::{Captures, Regex};
use snapbox::Assert;
use snapbox::data::Data;
use snapbox::report::Palette;

/// The text with each version `1.2.3` replaced by the locked one of the crate that is named before
/// it on its line. mdBook's is that of the library behind build.rs. Sections of RFCs are left alone.
fn with_locked_versions(file: &str, text: &str) -> String {
    let locked = book::locked(root());
    let number = Regex::new(r"\b\d+(\.\d+)+\b").unwrap();
    let since = Regex::new(r"\b[Ss]ince [\w-]+ $").unwrap();
    let lines = text.lines().enumerate().map(|(index, line)| {
        let replaced = number.replace_all(line, |found: &Captures| {
            let found = found.get(0).unwrap();
            let written = found.as_str().to_owned();
            if written.matches('.').count() != 2 {
                return written;
            }
            // "since http-body-util 0.1.3": snippets/since.toml has these.
            if since.is_match(&line[..found.start()]) {
                return written;
            }
            let no_name = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
            for word in line[..found.start()].rsplit(no_name) {
                let name = word.to_lowercase();
                if name.starts_with("section") {
                    return written;
                }
                let name = if name == "mdbook" { "mdbook-driver" } else { &name };
                if let Some(version) = locked.get(name) {
                    return version.clone();
                }
            }
            panic!(
                "{file}:{}: the version {written} stands alone: name its crate before it on the line, or say `1.2` only",
                index + 1
            )
        });
        format!("{replaced}\n")
    });
    lines.collect()
}

#[test]
fn versions_are_the_locked_ones() {
    // Those of old releases have tests of their own, or a link to what says so.
    let others = [
        "src/production/dependencies.md",
        "src/reference/errors.md",
        "src/reference/settings.md",
        "src/reference/versions.md",
    ];
    let pages = the_book().pages.iter().map(|page| page.path.clone());
    let pages = pages.filter(|path| !others.contains(&&**path));
    for file in pages.chain(["README.md".to_owned(), "CONTRIBUTING.md".to_owned()]) {
        let path = root().join(&file);
        let text = with_locked_versions(&file, &fs::read_to_string(&path).unwrap());
        let expected = Data::read_from(&path, None).raw();
        Assert::new()
            .palette(Palette::plain())
            .action_env("SNAPSHOTS")
            .eq(text, expected);
    }
}

#[test]
fn the_introduction_names_the_versions() {
    let introduction =
        fs::read_to_string(root().join("src/introduction.md")).unwrap();
    let locked = book::locked(root());
    for name in ["hyper", "hyper-util", "http-body-util", "tokio"] {
        let version = format!(r"\b{name} {}\b", regex::escape(&locked[name]));
        assert!(
            Regex::new(&version).unwrap().is_match(&introduction),
            "src/introduction.md: it should say which versions were tested: {name} {}",
            locked[name]
        );
    }
}
