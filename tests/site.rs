//! The site as readers, search engines and programs get it: rendered once, with the address
//! `https://example.org/guide/`, into target/tmp/site/html.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use book::{Page, resolve};
use harness::{root, the_book};
use mdbook_driver::MDBook;
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

fn pages() -> &'static [Page] {
    &the_book().pages
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
    let front = &pages()[0].path;
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

#[test]
fn each_page_has_a_description_of_its_own() {
    let mut seen = BTreeMap::new();
    for page in pages() {
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
    for page in pages() {
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
    let sitemap = file("sitemap.xml");
    let summary = file("llms.txt");
    for page in pages() {
        let entry = format!("<loc>{}</loc>", canonical(&page.path));
        assert!(sitemap.contains(&entry), "sitemap.xml does not list {}", page.path);
        let link = format!("]({URL}{}): ", address(&page.path));
        assert!(summary.contains(&link), "llms.txt does not list {}", page.path);
    }
    assert_eq!(
        sitemap.matches("<loc>").count(),
        pages().len(),
        "sitemap.xml has more"
    );
}

#[test]
fn llms_full_has_each_block_and_each_program() {
    let text = file("llms-full.txt");
    for block in the_book().blocks() {
        for (what, code) in
            [("what it shows", block.shown()), ("its program", block.whole())]
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
    for page in pages() {
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
                without_blank_lines(&block.shown()),
                "{place}"
            );
            let all = match rendered.name("program") {
                Some(number) => &programs[number.as_str().parse::<usize>().unwrap()],
                None => &lines,
            };
            assert_eq!(
                all.trim_end(),
                block.whole().trim_end(),
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
fn the_search_has_each_name_in_code() {
    let titles = script("search-titles", "var searchTitles = ", ";");
    let texts = script("search-texts", "searchTexts(", ");");
    let list = |value: &Value| value.as_array().unwrap().clone();
    let mut texts = list(&texts).into_iter();
    let name = Regex::new(r"\b[A-Za-z_]\w{2,}").unwrap();
    for (page, entry) in pages().iter().zip(list(&titles)) {
        let address = entry[0].as_str().unwrap();
        assert!(SITE.join(address).exists(), "the search leads to {address}");
        let mut known = BTreeSet::new();
        for section in list(&entry[2]) {
            let texts =
                texts.next().unwrap_or_else(|| panic!("{section} has no texts"));
            for code in [&texts[1], &texts[2]] {
                let names = name.find_iter(code.as_str().unwrap());
                known.extend(names.map(|name| name.as_str().to_owned()));
            }
        }
        for block in &page.blocks {
            let program = block.whole();
            let missing =
                name.find_iter(&program).find(|name| !known.contains(name.as_str()));
            let place = format!("{}:{}", block.page, block.line);
            assert_eq!(missing, None, "{place}: the search does not find this name");
        }
    }
    assert_eq!(
        texts.next(),
        None,
        "search-texts has more sections than search-titles"
    );
}

#[test]
fn the_foot_of_each_page_names_the_locked_versions_and_its_neighbours() {
    let locked = book::locked(root());
    let versions = ["hyper", "hyper-util", "http-body-util", "tokio"]
        .map(|name| format!("{name} {}", locked[name]));
    let line = format!("Tested with {}.", versions.join(", "));
    let address = |index: usize| pages().get(index).map(|page| address(&page.path));
    for (index, page) in pages().iter().enumerate() {
        let html = file(&address(index).unwrap());
        assert!(html.contains(&line), "{}: {line}", page.path);
        let root = "../".repeat(page.path.matches('/').count() - 1);
        for (kind, neighbour) in [
            ("prev", index.checked_sub(1).and_then(address)),
            ("next", address(index + 1)),
        ] {
            let link = found(&html, &format!("<a rel=\"{kind}\" href=\"([^\"]*)\">"));
            let wanted = neighbour.map(|neighbour| format!("{root}{neighbour}"));
            assert_eq!(link.map(str::to_owned), wanted, "{}: {kind}", page.path);
        }
    }
}

#[test]
fn every_mark_is_filled() {
    let listed = pages().iter().map(|page| address(&page.path));
    for page in
        listed.chain(["index.html", "404.html", "print.html"].map(str::to_owned))
    {
        let mark = file(&page)
            .lines()
            .find(|line| line.contains("<!-- site:"))
            .map(str::to_owned);
        assert_eq!(mark, None, "{page}: tools/site/src/lib.rs knows no such mark");
    }
}

#[test]
fn the_tree_of_pages_is_open_where_the_reader_is() {
    let part = Regex::new("(?s)<details( open)?><summary>.*?</details>").unwrap();
    for page in pages() {
        let html = file(&address(&page.path));
        for part in part
            .captures_iter(found(&html, "(?s)<nav id=\"pages\"(.*?)</nav>").unwrap())
        {
            let here = part[0].contains("aria-current");
            assert_eq!(part.get(1).is_some(), here, "{}: {}", page.path, &part[0]);
        }
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
        "mdBook's template index.hbs has changed, and tools/site/theme/index.hbs stands in its place. Read what \
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
    let known: BTreeMap<&str, BTreeSet<String>> =
        pages().iter().map(|page| (&*page.path, ids(&page.path))).collect();
    let mut broken = Vec::new();
    for page in pages() {
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
            match known.get(&*target) {
                None => broken.push(format!(
                    "{place}: the book has no page {target}: correct the link {link}"
                )),
                Some(ids) if !fragment.is_empty() && !ids.contains(fragment) => {
                    broken.push(format!("{place}: {target} has no heading #{fragment}: correct the link {link}"));
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
const OFFICIAL: [(&str, &str); 3] = [
    (
        "guides",
        "client client/advanced client/basic client/configuration client/json client/timeout \
         server server/echo server/graceful-shutdown server/handle_post server/hello-world \
         server/response_strategies",
    ),
    (
        "guides/0.14",
        "client client/advanced client/basic client/configuration server server/echo \
         server/graceful-shutdown server/hello-world",
    ),
    (
        "guides/1",
        "client client/advanced client/basic client/connectors client/post init/runtime \
         init/setup server server/echo server/graceful-shutdown server/hello-world \
         server/hello-world-http2 server/middleware upgrading",
    ),
];

#[test]
fn each_address_of_the_official_guides_leads_to_a_page() {
    let config = MDBook::load(root()).unwrap().config;
    let redirects = config.html_config().unwrap().redirect;
    let mut defects = Vec::new();
    for (folder, addresses) in OFFICIAL {
        for address in ["."].into_iter().chain(addresses.split(' ')) {
            let from = format!("/{folder}/{address}/index.html").replace("/./", "/");
            if !redirects.contains_key(&from) {
                defects.push(format!(
                    "book.toml: no redirect for {from}: lead it to the page that answers the same question"
                ));
            }
        }
    }
    // A page, or index.html, which is the first page.
    let pages: BTreeMap<String, BTreeSet<String>> = pages()
        .iter()
        .map(|page| &*page.path)
        .chain(["src/index.md"])
        .map(|page| (address(page), ids(page)))
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
                defects.push(format!("{place}, and the page has no heading #{fragment}: correct the fragment"));
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
    for page in pages() {
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
    let html: String =
        pages().iter().map(|page| file(&address(&page.path))).collect();
    for (name, place) in &seen {
        if html.matches(&format!(" id=\"{name}\"")).count() > 1 {
            defects.push(format!(
                "{place}: the id {name} is also that of a heading: begin it with the name of the picture"
            ));
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}
