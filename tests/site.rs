//! The site as readers, search engines and programs get it: rendered once, with the address
//! `https://example.org/guide/`, into target/tmp/site/html.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use mdbook_driver::MDBook;
use reader::{Block, Book, resolve};
use regex::Regex;
use serde_json::Value;
use sha2::{Digest, Sha256};

const URL: &str = "https://example.org/guide/";

static SITE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("site");
    let mut renderer = MDBook::load(root()).unwrap();
    renderer.config.build.build_dir = folder.clone();
    renderer.config.set("output.site.url", URL).unwrap();
    renderer.with_renderer(site::Site);
    renderer.build().unwrap();
    folder.join("html")
});

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn book() -> Book {
    Book::read(root()).unwrap_or_else(|defects| panic!("{defects:?}"))
}

/// A file of the site.
fn file(path: &str) -> String {
    fs::read_to_string(SITE.join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `server/echo.html` for `src/server/echo.md`.
fn address(page: &str) -> String {
    page.replacen("src/", "", 1).replace(".md", ".html")
}

/// The address under which search engines know the page: the first one is the front page.
fn canonical(page: &str) -> String {
    let front = &book().pages[0].path;
    if page == front { URL.to_owned() } else { format!("{URL}{}", address(page)) }
}

/// What the first group of the pattern matches in the page.
fn found<'a>(html: &'a str, pattern: &str) -> Option<&'a str> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures(html).map(|found| found.get(1).unwrap().as_str())
}

/// The text of a piece of HTML.
fn text(html: &str) -> String {
    let text = Regex::new("<[^>]*>").unwrap().replace_all(html, "");
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

/// The program of a block as it is copied: its hidden lines without their `# `.
fn program(block: &Block) -> String {
    if !block.is_rust() {
        return block.text.clone();
    }
    let lines = block.text.lines().map(|line| {
        let code = line.trim_start();
        if code == "#" { "" } else { code.strip_prefix("# ").unwrap_or(line) }
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The lines of a block that its page shows.
fn shown(block: &Block) -> String {
    let hidden = |line: &&str| {
        block.is_rust() && (line.trim() == "#" || line.trim_start().starts_with("# "))
    };
    block
        .text
        .lines()
        .filter(|line| !hidden(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn each_page_has_a_description_of_its_own() {
    let mut seen = BTreeMap::new();
    for page in book().pages {
        let html = file(&address(&page.path));
        let description =
            found(&html, "<meta name=\"description\" content=\"([^\"]*)\">")
                .unwrap_or_default();
        let length = text(description).chars().count();
        assert!(
            (50..=160).contains(&length),
            "{}: its first paragraph makes a description of {length} characters, search engines \
             show 50 to 160: let the page begin with sentences that say what it is about. It is: \
             {description}",
            page.path
        );
        if let Some(other) = seen.insert(description.to_owned(), page.path.clone()) {
            panic!(
                "{} and {other} begin with the same words: {description}",
                page.path
            );
        }
    }
}

#[test]
fn each_page_says_where_it_is() {
    for page in book().pages {
        let html = file(&address(&page.path));
        let link = found(&html, "<link rel=\"canonical\" href=\"([^\"]*)\">");
        assert_eq!(link, Some(&*canonical(&page.path)), "{}", page.path);
        let property =
            found(&html, "<meta property=\"og:url\" content=\"([^\"]*)\">");
        assert_eq!(property, link, "{}", page.path);
        let marked = html.matches("aria-current=\"page\"").count();
        assert_eq!(
            marked, 1,
            "{}: the tree of pages marks so many as this one",
            page.path
        );
    }
}

#[test]
fn the_sitemap_and_llms_txt_list_each_page() {
    let book = book();
    let sitemap = file("sitemap.xml");
    let summary = file("llms.txt");
    for page in &book.pages {
        let entry = format!("<loc>{}</loc>", canonical(&page.path));
        assert!(sitemap.contains(&entry), "sitemap.xml does not list {}", page.path);
        let link = format!("]({URL}{}): ", address(&page.path));
        assert!(summary.contains(&link), "llms.txt does not list {}", page.path);
    }
    assert_eq!(
        sitemap.matches("<loc>").count(),
        book.pages.len(),
        "sitemap.xml has more"
    );
}

#[test]
fn llms_full_has_each_block_and_each_program() {
    let text = file("llms-full.txt");
    for block in book().blocks() {
        for (what, code) in
            [("what it shows", shown(block)), ("its program", program(block))]
        {
            assert!(
                text.contains(code.trim_matches('\n')),
                "{}:{}: llms-full.txt lacks {what}",
                block.page,
                block.line
            );
        }
    }
}

#[test]
fn each_block_shows_its_lines_and_has_its_program() {
    let rendered = Regex::new(
        "(?s)<div class=\"code [a-z]+\"(?: data-program=\"(?<program>\\d+)\" data-shown=\"[-\\d ]*\")?>\
         <pre[^>]*><code>(?<shown>.*?)</code></pre>",
    )
    .unwrap();
    let without_blank_lines = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect()
    };
    for page in book().pages {
        let html = file(&address(&page.path));
        let programs = found(
            &html,
            "(?s)<script type=\"application/json\" id=\"programs\">(.*?)</script>",
        );
        let programs: Vec<String> =
            serde_json::from_str(programs.unwrap_or("[]")).unwrap();
        let rendered: Vec<_> = rendered.captures_iter(&html).collect();
        assert_eq!(
            rendered.len(),
            page.blocks.len(),
            "{}: so many blocks",
            page.path
        );
        for (block, rendered) in page.blocks.iter().zip(rendered) {
            let place = format!("{}:{}", block.page, block.line);
            let lines = text(&rendered["shown"]);
            assert_eq!(
                without_blank_lines(&lines),
                without_blank_lines(&shown(block)),
                "{place}"
            );
            let all = match rendered.name("program") {
                Some(number) => &programs[number.as_str().parse::<usize>().unwrap()],
                None => &lines,
            };
            assert_eq!(
                all.trim_end(),
                program(block).trim_end(),
                "{place}: the whole program"
            );
        }
    }
}

/// What a script of the search hands over.
fn script(name: &str, before: &str, after: &str) -> Value {
    let mut files =
        fs::read_dir(&*SITE).unwrap().map(|entry| entry.unwrap().file_name());
    let path = files.find(|file| file.to_string_lossy().starts_with(name));
    let script = file(
        path.unwrap_or_else(|| panic!("the site has no {name}")).to_str().unwrap(),
    );
    let json = script
        .strip_prefix(before)
        .and_then(|rest| rest.trim_end().strip_suffix(after));
    serde_json::from_str(
        json.unwrap_or_else(|| panic!("{name} is not {before}…{after}")),
    )
    .unwrap()
}

#[test]
fn the_search_index_has_each_name_in_code() {
    let index = script("search-index", "var searchIndex = ", ";");
    let texts = script("search-texts", "searchTexts(", ");");
    let mut texts = texts.as_array().unwrap().iter();
    let name = Regex::new(r"\b[A-Za-z_]\w{2,}").unwrap();
    for (page, entry) in book().pages.iter().zip(index.as_array().unwrap()) {
        assert!(
            SITE.join(entry[0].as_str().unwrap()).exists(),
            "the search leads to {}",
            entry[0]
        );
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for section in entry[2].as_array().unwrap() {
            let [_, title, names, hidden] = &section.as_array().unwrap()[..] else {
                panic!("{section} is no section");
            };
            let [prose, code] = &texts.next().unwrap().as_array().unwrap()[..] else {
                panic!("{title} has no texts");
            };
            let code = code.as_str().unwrap();
            let missing =
                names.as_str().unwrap().split(' ').find(|name| !code.contains(name));
            assert_eq!(missing, None, "{}: {title} {prose}", page.path);
            for text in [names, hidden] {
                known.extend(
                    name.find_iter(text.as_str().unwrap()).map(|name| name.as_str()),
                );
            }
        }
        for block in &page.blocks {
            let program = program(block);
            for name in name.find_iter(&program) {
                assert!(
                    known.contains(name.as_str()),
                    "{}:{}: the search does not find `{}`",
                    block.page,
                    block.line,
                    name.as_str()
                );
            }
        }
    }
    assert_eq!(
        texts.next(),
        None,
        "search-texts has more sections than search-index"
    );
}

#[test]
fn the_foot_of_each_page_names_the_locked_versions() {
    let lock: toml::Table =
        fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let versions = ["hyper", "hyper-util", "http-body-util", "tokio"].map(|name| {
        let newest =
            packages.iter().rfind(|package| package["name"].as_str() == Some(name));
        format!("{name} {}", newest.unwrap()["version"].as_str().unwrap())
    });
    let line = format!("Tested with {}.", versions.join(", "));
    for page in book().pages {
        assert!(file(&address(&page.path)).contains(&line), "{}: {line}", page.path);
    }
}

#[test]
fn every_mark_of_the_template_is_filled() {
    for page in ["index.html", "404.html", "print.html", "server/echo.html"] {
        let html = file(page);
        assert_eq!(
            found(&html, "(<!-- site:[^>]*>)"),
            None,
            "{page}: theme/index.hbs has a mark that `Page::finish` in site/src/lib.rs does not know"
        );
    }
}

/// mdBook's own template, as this one was made from it.
#[test]
fn the_template_that_ours_replaces_has_not_changed() {
    const UPSTREAM: &str =
        "bf8b6b7cc5c1e44b03ab0392297705a220b569b601286e0ad538cca6d56717f1";
    let folder = tempfile::tempdir().unwrap();
    MDBook::init(folder.path()).copy_theme(true).build().unwrap();
    let template = fs::read(folder.path().join("theme/index.hbs")).unwrap();
    let hash: String =
        Sha256::digest(template).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hash, UPSTREAM,
        "mdBook's template index.hbs has changed, and theme/index.hbs stands in its place. Read what \
         changed (front-end/templates/index.hbs in the repository of mdBook, from the release in the last \
         commit that touched this test), take over what our pages need, look at the site, then write the \
         new hash into UPSTREAM"
    );
}

/// The ids in the page that mdBook renders for `src/PAGE.md`.
fn ids(page: &str) -> BTreeSet<String> {
    let html = file(&address(page));
    let id = Regex::new(r#"\sid="([^"]*)""#).unwrap();
    id.captures_iter(&html).map(|found| found[1].to_owned()).collect()
}

#[test]
fn links_lead_to_pages_and_fragments() {
    let book = book();
    let pages: BTreeMap<&str, BTreeSet<String>> =
        book.pages.iter().map(|page| (&*page.path, ids(&page.path))).collect();
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
