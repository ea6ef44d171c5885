//! The book as a whole: it renders, its links and redirects lead somewhere, its pictures follow the
//! theme and can be read aloud, its versions are those of Cargo.lock. `SNAPSHOTS=overwrite cargo test --test book` writes the locked versions into the
//! pages and the README.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mdbook_driver::MDBook;
use reader::{Book, resolve};
use regex::{Captures, Regex};
use snapbox::Assert;
use snapbox::data::Data;
use snapbox::report::Palette;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn book() -> Book {
    Book::read(root()).unwrap_or_else(|defects| panic!("{defects:?}"))
}

/// The version of each crate in Cargo.lock.
fn locked() -> BTreeMap<String, String> {
    let lock: toml::Table =
        fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    packages
        .map(|package| (text(&package["name"]), text(&package["version"])))
        .collect()
}

/// The text with each version `1.2.3` replaced by the locked one of the crate that is named before
/// it on its line. mdBook's is that of the library behind build.rs. Sections of RFCs are left alone.
fn with_locked_versions(file: &str, text: &str) -> String {
    let locked = locked();
    let number = Regex::new(r"\b\d+(\.\d+)+\b").unwrap();
    let lines = text.lines().enumerate().map(|(index, line)| {
        let replaced = number.replace_all(line, |found: &Captures| {
            let found = found.get(0).unwrap();
            let written = found.as_str().to_owned();
            if written.matches('.').count() != 2 {
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
    let pages = book().pages.into_iter().map(|page| page.path);
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
    let locked = locked();
    for name in ["hyper", "hyper-util", "http-body-util", "tokio"] {
        let version = format!(r"\b{name} {}\b", regex::escape(&locked[name]));
        assert!(
            Regex::new(&version).unwrap().is_match(&introduction),
            "src/introduction.md: it should say which versions were tested: {name} {}",
            locked[name]
        );
    }
}

/// The whole site, in a folder of its own.
fn render() -> TempDir {
    let rendered = tempfile::tempdir().unwrap();
    let mut renderer = MDBook::load(root()).unwrap();
    renderer.config.build.build_dir = rendered.path().to_owned();
    renderer.build().unwrap();
    rendered
}

/// What mdBook renders for `src/PAGE.md`.
fn html(rendered: &Path, page: &str) -> String {
    let page = page.strip_prefix("src/").unwrap();
    fs::read_to_string(rendered.join(page).with_extension("html")).unwrap()
}

/// The ids in the page that mdBook renders for `src/PAGE.md`.
fn ids(rendered: &Path, page: &str) -> BTreeSet<String> {
    let id = Regex::new(r#"\sid="([^"]*)""#).unwrap();
    let html = html(rendered, page);
    id.captures_iter(&html).map(|found| found[1].to_owned()).collect()
}

#[test]
fn links_lead_to_pages_and_fragments() {
    let rendered = render();
    let book = book();
    let pages: BTreeMap<&str, BTreeSet<String>> = book
        .pages
        .iter()
        .map(|page| (&*page.path, ids(rendered.path(), &page.path)))
        .collect();
    let mut broken = Vec::new();
    for page in &book.pages {
        for (line, link) in page.links() {
            if link.contains("://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                page.path.clone()
            } else {
                resolve(&page.path, path)
            };
            let place = format!("{}:{line}", page.path);
            match pages.get(&*target) {
                None => broken.push(format!(
                    "{place}: the book has no page {target}: mend the link {link}"
                )),
                Some(ids) if !fragment.is_empty() && !ids.contains(fragment) => {
                    broken.push(format!("{place}: {target} has no heading #{fragment}: mend the link {link}"));
                }
                Some(_) => {}
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The addresses of the official guides, each the folder of an `index.html`. They are those of the
/// pages that the repository of the official site, hyperium/hyperium.github.io, has or had:
/// `_stable/` is served as `guides/1/`, `_legacy/` as `guides/0.14/`, and `_guides/` was `guides/`, to
/// which `redirect_from` still points.
const OFFICIAL: [&str; 37] = [
    "guides",
    "guides/client",
    "guides/client/advanced",
    "guides/client/basic",
    "guides/client/configuration",
    "guides/client/json",
    "guides/client/timeout",
    "guides/server",
    "guides/server/echo",
    "guides/server/graceful-shutdown",
    "guides/server/handle_post",
    "guides/server/hello-world",
    "guides/server/response_strategies",
    "guides/0.14",
    "guides/0.14/client",
    "guides/0.14/client/advanced",
    "guides/0.14/client/basic",
    "guides/0.14/client/configuration",
    "guides/0.14/server",
    "guides/0.14/server/echo",
    "guides/0.14/server/graceful-shutdown",
    "guides/0.14/server/hello-world",
    "guides/1",
    "guides/1/client",
    "guides/1/client/advanced",
    "guides/1/client/basic",
    "guides/1/client/connectors",
    "guides/1/client/post",
    "guides/1/init/runtime",
    "guides/1/init/setup",
    "guides/1/server",
    "guides/1/server/echo",
    "guides/1/server/graceful-shutdown",
    "guides/1/server/hello-world",
    "guides/1/server/hello-world-http2",
    "guides/1/server/middleware",
    "guides/1/upgrading",
];

#[test]
fn each_address_of_the_official_guides_leads_to_a_page() {
    let config = MDBook::load(root()).unwrap().config;
    let redirects = config.html_config().unwrap().redirect;
    let mut defects = Vec::new();
    for address in OFFICIAL {
        let from = format!("/{address}/index.html");
        if !redirects.contains_key(&from) {
            defects.push(format!(
                "book.toml: no redirect for {from}: lead it to the page that answers the same question"
            ));
        }
    }
    let rendered = render();
    // A page, or index.html, which is the first page.
    let pages: BTreeMap<String, BTreeSet<String>> = book()
        .pages
        .iter()
        .map(|page| &*page.path)
        .chain(["src/index.md"])
        .map(|page| {
            let html = page.replacen("src/", "", 1).replace(".md", ".html");
            (html, ids(rendered.path(), page))
        })
        .collect();
    for (from, to) in &redirects {
        let (path, fragment) = to.split_once('#').unwrap_or((to, ""));
        let place = format!("book.toml: {from} leads to {to}");
        // A browser stays at the root when there is no folder above; here that is a defect, because
        // the site may live in a folder itself.
        let mut folder: Vec<&str> = from.trim_start_matches('/').split('/').collect();
        folder.pop();
        let mut relative = path;
        while let Some(rest) = relative.strip_prefix("../") {
            relative = rest;
            if folder.pop().is_none() {
                relative = "";
            }
        }
        folder.push(relative);
        match pages.get(&folder.join("/")) {
            None => defects.push(format!(
                "{place}, which is no page: write the way from {from} to the page, with a `../` for each folder"
            )),
            Some(ids) if !fragment.is_empty() && !ids.contains(fragment) => {
                defects.push(format!("{place}, and the page has no heading #{fragment}: mend the fragment"));
            }
            Some(_) => {}
        }
    }
    defects.sort();
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

/// The pictures of the book, `<svg>` to `</svg>`: where each begins, and its text. A picture stands in
/// a file that a page includes, or in the page itself.
fn pictures() -> Vec<(String, usize, String)> {
    let picture = Regex::new(r"(?s)<svg\b.*?</svg>").unwrap();
    let include = Regex::new(r"\{\{\s*#include\s+(\S+\.svg)\s*\}\}").unwrap();
    let mut found = Vec::new();
    for page in book().pages {
        let mut files = vec![(page.path.clone(), page.source.clone())];
        for included in include.captures_iter(&page.source) {
            let file = resolve(&page.path, &included[1]);
            let text = fs::read_to_string(root().join(&file)).unwrap();
            files.push((file, text));
        }
        for (file, text) in files {
            for picture in picture.find_iter(&text) {
                let line = text[..picture.start()].matches('\n').count() + 1;
                found.push((file.clone(), line, picture.as_str().to_owned()));
            }
        }
    }
    found
}

#[test]
fn pictures_follow_the_theme_and_can_be_read_aloud() {
    let named = Regex::new(
        r#"^<svg\b[^>]*\baria-labelledby="([^" ]+) ([^" ]+)"[^>]*>\s*<title id="([^"]+)">[^<]+</title>\s*<desc id="([^"]+)">[^<]+</desc>"#,
    )
    .unwrap();
    let id = Regex::new(r#"\sid="([^"]*)""#).unwrap();
    // A colour as an attribute, or in a style.
    let color = Regex::new(
        r#"\b(fill|stroke|color|stop-color|flood-color|lighting-color|background)(?:="|\s*:\s*)([^";]*)"#,
    )
    .unwrap();
    let themed = Regex::new(
        r"^(none|transparent|currentColor|inherit|var\(--[a-z-]+(, (currentColor|transparent))?\))$",
    )
    .unwrap();
    let mut seen = BTreeMap::new();
    let mut defects = Vec::new();
    let pictures = pictures();
    assert!(!pictures.is_empty(), "the book has pictures");
    for (file, line, picture) in &pictures {
        let at = |offset: usize| {
            format!("{file}:{}", line + picture[..offset].matches('\n').count())
        };
        if !picture[..picture.find('>').unwrap()].contains(r#"role="img""#) {
            defects
                .push(format!("{}: a picture without role=\"img\": add it", at(0)));
        }
        if !named
            .captures(picture)
            .is_some_and(|name| name[1] == name[3] && name[2] == name[4])
        {
            defects.push(format!(
                "{}: a picture that cannot be read aloud: begin it with `<title id=\"A\">` and `<desc id=\"B\">`, which say what it shows, and name them in `aria-labelledby=\"A B\"`",
                at(0)
            ));
        }
        for found in id.captures_iter(picture) {
            let place = at(found.get(0).unwrap().start());
            if let Some(first) = seen.insert(found[1].to_owned(), place.clone()) {
                defects.push(format!(
                    "{place}: the id {} is also that of {first}: the print page joins all pages, so begin each id with the name of the picture",
                    &found[1]
                ));
            }
        }
        for found in color.captures_iter(picture) {
            if !themed.is_match(&found[2]) {
                defects.push(format!(
                    "{}: {} is {}, in each theme: use currentColor or a colour of the theme, as in `var(--accent, currentColor)`",
                    at(found.get(0).unwrap().start()), &found[1], &found[2]
                ));
            }
        }
    }
    // The pages have ids of their own, such as those of headings.
    let rendered = render();
    let pages: String =
        book().pages.iter().map(|page| html(rendered.path(), &page.path)).collect();
    for (name, place) in &seen {
        if pages.matches(&format!(" id=\"{name}\"")).count() > 1 {
            defects.push(format!(
                "{place}: the id {name} is also that of a heading: begin it with the name of the picture"
            ));
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}
