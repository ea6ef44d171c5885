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
const REPOSITORY: &str = "https://example.org/books/hyper-guide";

static SITE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("site");
    let mut renderer = MDBook::load(root()).unwrap();
    renderer.config.build.build_dir = folder.clone();
    renderer.config.set("output.site.url", URL).unwrap();
    renderer.config.set("output.html.git-repository-url", REPOSITORY).unwrap();
    renderer.with_renderer(site::Site);
    renderer.build().unwrap();
    folder.join("html")
});

fn pages() -> &'static [Page] {
    &the_book().pages
}

/// Each page, and its HTML.
fn rendered() -> impl Iterator<Item = (&'static Page, String)> {
    pages().iter().map(|page| (page, file(&address(&page.path))))
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
fn canonical(page: &Page) -> String {
    let front = page.path == pages()[0].path;
    if front { URL.to_owned() } else { format!("{URL}{}", address(&page.path)) }
}

/// What the first group of the pattern matches in the page.
fn found<'a>(html: &'a str, pattern: &str) -> Option<&'a str> {
    let found = Regex::new(pattern).unwrap().captures(html)?;
    Some(found.get(1).unwrap().as_str())
}

/// The text of a piece of HTML.
fn text(html: &str) -> String {
    let text = Regex::new("<[^>]*>").unwrap().replace_all(html, "");
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"").replace("&amp;", "&")
}

#[test]
fn each_page_has_a_description_of_its_own() {
    let mut seen = BTreeMap::new();
    for (page, html) in rendered() {
        let description =
            found(&html, "<meta name=\"description\" content=\"([^\"]*)\">");
        let description = text(description.unwrap_or_default());
        let length = description.chars().count();
        assert!(
            (50..=160).contains(&length),
            "{}: its first paragraph makes a description of {length} characters, search engines \
             show 50 to 160: let the page begin with sentences that say what it is about. It is: \
             {description}",
            page.path
        );
        let other = seen.insert(description, &page.path);
        assert_eq!(other, None, "{} begins with the same words", page.path);
    }
}

/// A tab and a result of a search have the title alone: two pages named HTTP/2 are not told apart.
#[test]
fn each_page_has_a_title_of_its_own() {
    let mut seen = BTreeMap::new();
    for (page, html) in rendered() {
        let title = text(found(&html, "<title>([^<]*)</title>").unwrap_or_default());
        let other = seen.insert(title.clone(), &page.path);
        assert_eq!(other, None, "{} has the title {title:?} as well", page.path);
    }
}

#[test]
fn each_page_says_where_it_is() {
    let part = Regex::new("(?s)<details( open)?><summary>.*?</details>").unwrap();
    for (page, html) in rendered() {
        let path = &page.path;
        let link = found(&html, "<link rel=\"canonical\" href=\"([^\"]*)\">");
        assert_eq!(link, Some(&*canonical(page)), "{path}");
        let property =
            found(&html, "<meta property=\"og:url\" content=\"([^\"]*)\">");
        assert_eq!(property, link, "{path}");
        let tree = found(&html, "(?s)<nav id=\"pages\"(.*?)</nav>").unwrap();
        let marked = tree.matches("aria-current=\"page\"").count();
        assert_eq!(marked, 1, "{path}: the tree of pages marks so many as this one");
        let listed = tree.matches("<a href=").count();
        assert_eq!(listed, pages().len(), "{path}: the tree lists so many pages");
        for part in part.captures_iter(tree) {
            let here = part[0].contains("aria-current");
            assert_eq!(
                part.get(1).is_some(),
                here,
                "{path}: is it open? {}",
                &part[0]
            );
        }
    }
}

#[test]
fn the_sitemap_and_llms_txt_list_each_page() {
    let sitemap = file("sitemap.xml");
    let summary = file("llms.txt");
    for page in pages() {
        let entry = format!("<loc>{}</loc>", canonical(page));
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
        for code in [block.shown(), block.whole()] {
            let place = format!("{}:{}", block.page, block.line);
            let code = code.trim_matches('\n');
            assert!(text.contains(code), "{place}: llms-full.txt lacks\n{code}");
        }
    }
}

/// What a script of the search hands over.
fn script(name: &str, before: &str, after: &str) -> Vec<Value> {
    let entries = fs::read_dir(&*SITE).unwrap();
    let mut names =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let script = file(&names.find(|file| file.starts_with(name)).expect(name));
    let json = script
        .trim_end()
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    serde_json::from_str(
        json.unwrap_or_else(|| panic!("{name} is not {before}…{after}")),
    )
    .unwrap()
}

/// Other words for a section, `<!-- also: … -->`, are for the search and not for the page.
#[test]
fn the_search_has_the_other_words_of_a_section() {
    let texts = script("search-texts", "searchTexts(", ");");
    let known: Vec<_> = texts.iter().filter_map(|texts| texts[3].as_str()).collect();
    let other = Regex::new("<!-- also: (.*) -->").unwrap();
    let mut count = 0;
    for (page, html) in rendered() {
        let path = &page.path;
        assert!(
            !html.contains("<!-- also:"),
            "{path}: readers load the words for the search"
        );
        for words in other.captures_iter(&page.source) {
            assert!(
                known.contains(&&words[1]),
                "{path}: the search lacks `{}`",
                &words[1]
            );
            count += 1;
        }
    }
    assert!(count > 0, "no page has other words for a section");
}

#[test]
fn the_search_has_each_name_in_code() {
    let titles = script("search-titles", "var searchTitles = ", ";");
    let mut texts = script("search-texts", "searchTexts(", ");").into_iter();
    let name = Regex::new(r"\b[A-Za-z_]\w{2,}").unwrap();
    for (page, entry) in pages().iter().zip(titles) {
        let mut known = BTreeSet::new();
        for section in entry[2].as_array().unwrap() {
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
    let versions = ["hyper", "hyper-util", "http-body-util", "tokio"];
    let versions = versions.map(|name| format!("{name} {}", locked[name])).join(", ");
    let neighbour = |index: usize| pages().get(index).map(|page| address(&page.path));
    for (index, (page, html)) in rendered().enumerate() {
        assert!(
            html.contains(&format!("Tested with {versions}.")),
            "{}: {versions}",
            page.path
        );
        let before = index.checked_sub(1).and_then(neighbour);
        for (kind, wanted) in [("prev", before), ("next", neighbour(index + 1))] {
            let link = found(
                &html,
                &format!("<a rel=\"{kind}\" href=\"(?:\\.\\./)*([^\"]*)\">"),
            );
            assert_eq!(link, wanted.as_deref(), "{}: {kind}", page.path);
        }
    }
}

#[test]
fn every_mark_is_filled() {
    let others = ["index.html", "404.html", "print.html"].map(str::to_owned);
    for page in pages().iter().map(|page| address(&page.path)).chain(others) {
        let html = file(&page);
        let mark = found(&html, "(<!-- site:[^>]*>)");
        assert_eq!(mark, None, "{page}: tools/site/src/lib.rs knows no such mark");
    }
}

#[test]
fn where_a_page_says_clone_it_names_the_repository() {
    for (page, html) in rendered() {
        if page.source.contains("<!-- site:clone -->") {
            let commands = format!("git clone {REPOSITORY}\ncd hyper-guide\n");
            assert!(text(&html).contains(&commands), "{}", page.path);
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
    let hash = Sha256::digest(template);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hash, UPSTREAM,
        "mdBook's template index.hbs has changed, and tools/site/theme/index.hbs stands in its \
         place. Read what changed (front-end/templates/index.hbs in the repository of mdBook, \
         from the release in the last commit that touched this test), take over what our pages \
         need, look at the site, then write the new hash into UPSTREAM"
    );
}

/// Why a link leads nowhere. `target` is a file of the site.
fn broken(target: &str, fragment: &str) -> Option<String> {
    static IDS: LazyLock<BTreeMap<String, BTreeSet<String>>> = LazyLock::new(|| {
        let id = Regex::new(r#"\sid="([^"]*)""#).unwrap();
        let listed = pages().iter().map(|page| address(&page.path));
        let ids = listed.chain(["index.html".to_owned()]).map(|page| {
            let html = file(&page);
            let ids =
                id.captures_iter(&html).map(|found| found[1].to_owned()).collect();
            (page, ids)
        });
        ids.collect()
    });
    match IDS.get(target) {
        None => Some(format!("{target} is no page of the book")),
        Some(ids) if fragment.is_empty() || ids.contains(fragment) => None,
        Some(_) => Some(format!("{target} has no heading #{fragment}")),
    }
}

#[test]
fn links_lead_to_pages_and_fragments() {
    let mut defects = Vec::new();
    for page in pages() {
        for (line, link) in
            page.links().into_iter().filter(|(_, link)| !link.contains("://"))
        {
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.path.clone(),
                path => resolve(&page.path, path),
            };
            if let Some(why) = broken(&address(&target), fragment) {
                defects.push(format!(
                    "{}:{line}: {why}: correct the link {link}",
                    page.path
                ));
            }
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
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
    for (from, to) in &redirects {
        let (path, fragment) = to.split_once('#').unwrap_or((to, ""));
        // A browser stays at the root when there is no folder above; here that is a defect, because
        // the site may live in a folder itself.
        let above = path.matches("../").count();
        let target = match above == from.matches('/').count() - 1 {
            true => path.replace("../", ""),
            false => path.to_owned(),
        };
        if let Some(why) = broken(&target, fragment) {
            defects.push(format!(
                "book.toml: {from} leads to {to}, but {why}: write the way to the page, with a `../` for each folder"
            ));
        }
    }
    defects.sort();
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

/// The pictures that pages include: the file of each, and its text.
fn pictures() -> BTreeMap<String, String> {
    let include = Regex::new(r"\{\{#include (\S+\.svg)\}\}").unwrap();
    let mut found = BTreeMap::new();
    for page in pages() {
        let here = page.source.contains("<svg");
        assert!(
            !here,
            "{}: put the picture into a file, and include that",
            page.path
        );
        for included in include.captures_iter(&page.source) {
            let file = resolve(&page.path, &included[1]);
            let text = fs::read_to_string(root().join(&file)).unwrap();
            found.insert(file, text);
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
    let mut defects = Vec::new();
    let pictures = pictures();
    assert!(!pictures.is_empty(), "the book has pictures");
    for (file, picture) in &pictures {
        if !picture.split('>').next().unwrap().contains(r#"role="img""#) {
            defects.push(format!("{file}: a picture without role=\"img\": add it"));
        }
        let name = named.captures(picture);
        if !name.is_some_and(|name| name[1] == name[3] && name[2] == name[4]) {
            defects.push(format!(
                "{file}: a picture that cannot be read aloud: begin it with `<title id=\"A\">` and `<desc id=\"B\">`, which say what it shows, and name them in `aria-labelledby=\"A B\"`"
            ));
        }
        let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
        let name = format!("{name}-");
        for found in
            id.captures_iter(picture).filter(|found| !found[1].starts_with(&name))
        {
            let id = &found[1];
            defects.push(format!(
                "{file}: the id {id} may be that of something else: begin it with `{name}`"
            ));
        }
        for found in color.captures_iter(picture) {
            if !themed.is_match(&found[2]) {
                defects.push(format!(
                    "{file}: {} is {}, in each theme: use currentColor or a colour of the theme, as in `var(--accent, currentColor)`",
                    &found[1], &found[2]
                ));
            }
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}
