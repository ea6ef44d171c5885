//! Finishes the site: what mdBook's templates cannot do.
//!
//! theme/index.hbs has marks such as `<!-- site:nav -->`. [`Site`] runs after mdBook's html
//! renderer, puts into each page what belongs there, mends the HTML of its text, and writes what
//! belongs to no single page: the search index, sitemap.xml, llms.txt and llms-full.txt. To add
//! something to every page, add a mark to the template and fill it in `Page::finish`.

mod content;
mod highlight;
mod machines;
mod search;

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use mdbook_renderer::book::{BookItem, Chapter};

use mdbook_renderer::{RenderContext, Renderer};
use serde_json::json;

use content::{Content, escaped};

/// The crates whose versions stand below each page.
const TESTED_WITH: [&str; 4] = ["hyper", "hyper-util", "http-body-util", "tokio"];

pub struct Site;

impl Renderer for Site {
    fn name(&self) -> &str {
        "site"
    }

    /// Finishes the pages in the folder of the html renderer, which mdBook runs before this one.
    fn render(&self, ctx: &RenderContext) -> Result<()> {
        let folder = ctx.destination.with_file_name("html");
        let whole = Whole::of(ctx)?;
        let (pages, others) = thread::scope(|scope| {
            // The print page is all the others once more: it takes as long as they do.
            let others = scope.spawn(|| {
                let unlisted = ["404.html", "print.html"].into_iter();
                unlisted
                    .filter(|path| folder.join(path).exists())
                    .map(|path| Page::read(&folder, path.to_owned(), None))
                    .collect::<Result<Vec<Page>>>()
            });
            let pages = ctx.book.chapters().map(|chapter| {
                Page::read(&folder, address(chapter), Some(chapter.name.clone()))
            });
            let pages = pages.collect::<Result<Vec<Page>>>();
            (pages, others.join().expect("reading a page does not panic"))
        });
        let (pages, mut others) = (pages?, others?);
        // The first page is the front page as well: there, it has its address.
        others.push(Page::read(
            &folder,
            "index.html".to_owned(),
            pages.first().and_then(|page| page.title.clone()),
        )?);
        let search = Search::write(&folder, &pages)?;

        for page in pages.iter().chain(&others) {
            fs::write(folder.join(&page.path), page.finish(&whole, &search))?;
        }
        remove_unused(&folder, &pages[0], &search)?;

        fs::write(folder.join("llms.txt"), machines::summary(&whole, ctx, &pages))?;
        fs::write(folder.join("llms-full.txt"), machines::full(&whole, ctx))?;
        if whole.url.is_some() {
            fs::write(folder.join("sitemap.xml"), machines::sitemap(&whole, &pages))?;
        }
        Ok(())
    }
}

/// What all pages have in common.
struct Whole<'a> {
    title: String,
    description: String,
    /// Where the site will be, with a slash at its end: `https://example.org/guide/`. Not known
    /// in a clone; who publishes sets MDBOOK_OUTPUT__SITE__URL.
    url: Option<String>,
    items: &'a [BookItem],
    versions: String,
}

impl Whole<'_> {
    fn of(ctx: &RenderContext) -> Result<Whole<'_>> {
        let lock = fs::read_to_string(ctx.root.join("Cargo.lock"))
            .context("Cargo.lock has the versions that stand below each page")?;
        let versions = TESTED_WITH.map(|name| {
            let version = locked_version(&lock, name);
            format!("{name} {}", version.unwrap_or("(not in Cargo.lock)"))
        });
        let url = ctx.config.get::<String>("output.site.url")?;
        Ok(Whole {
            title: ctx.config.book.title.clone().unwrap_or_default(),
            description: ctx.config.book.description.clone().unwrap_or_default(),
            url: url
                .filter(|url| !url.is_empty())
                .map(|url| format!("{}/", url.trim_end_matches('/'))),
            items: &ctx.book.items,
            versions: versions.join(", "),
        })
    }

    /// The address of a page: whole where the site's own is known, else from its root.
    fn address(&self, path: &str) -> String {
        let path = if path == "index.html" { "" } else { path };
        format!("{}{path}", self.url.as_deref().unwrap_or_default())
    }
}

/// The newest version of the crate in Cargo.lock, which lists the older ones before it.
fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.rsplit_once(&entry)?;
    rest.split('"').next()
}

/// A page as mdBook has rendered it.
struct Page {
    /// From the root of the site: `server/echo.html`.
    path: String,
    /// Its name in SUMMARY.md. None for those that are not listed there.
    title: Option<String>,
    before: String,
    content: Content,
    after: String,
}

impl Page {
    fn read(folder: &Path, path: String, title: Option<String>) -> Result<Page> {
        let html = fs::read_to_string(folder.join(&path))
            .with_context(|| format!("mdBook has not rendered {path}"))?;
        let missing = || {
            format!(
                "{path}: theme/index.hbs must have the marks site:content and site:end"
            )
        };
        let (before, rest) =
            html.split_once("<!-- site:content -->").with_context(missing)?;
        let (content, after) =
            rest.split_once("<!-- site:end -->").with_context(missing)?;
        Ok(Page {
            title,
            before: before.to_owned(),
            content: Content::of(content.trim()),
            after: after.to_owned(),
            path,
        })
    }

    /// The page with everything in its place.
    fn finish(&self, whole: &Whole, search: &Search) -> String {
        let fill = |html: &str| {
            html.replace("<!-- site:head -->", &self.head(whole))
                .replace("<!-- site:nav -->", &self.nav(whole.items))
                .replace("<!-- site:outline -->", &self.content.outline())
                .replace(
                    "<!-- site:versions -->",
                    &format!("Tested with {}.", whole.versions),
                )
                .replace("<!-- site:programs -->", &self.programs())
                .replace(
                    "<!-- site:index -->",
                    &format!("{}{}", self.to_root(), search.index),
                )
                .replace(
                    "<!-- site:texts -->",
                    &format!("{}{}", self.to_root(), search.texts),
                )
        };
        format!("{}{}{}", fill(&self.before), self.content.html, fill(&self.after))
    }

    /// The whole programs, for theme/site.js. Paper has no buttons that ask for them.
    fn programs(&self) -> String {
        if self.content.programs.is_empty() || self.path == "print.html" {
            return String::new();
        }
        let programs =
            json!(self.content.programs).to_string().replace('<', "\\u003c");
        format!(
            "<script type=\"application/json\" id=\"programs\">{programs}</script>"
        )
    }

    fn head(&self, whole: &Whole) -> String {
        let Some(title) = &self.title else { return String::new() };
        let description = escaped(&self.content.description());
        let mut head =
            format!("<meta name=\"description\" content=\"{description}\">");
        let property = |name: &str, value: &str| {
            format!("\n<meta property=\"og:{name}\" content=\"{}\">", escaped(value))
        };
        let kind = if self.path == "index.html" { "website" } else { "article" };
        head += &property("title", title);
        head += &property("type", kind);
        head += &property("site_name", &whole.title);
        head += &property("description", &self.content.description());
        if whole.url.is_some() {
            let front = first(whole.items).map(address);
            let front = front.is_some_and(|front| front == self.path);
            let url = whole.address(if front { "index.html" } else { &self.path });
            head += &property("url", &url);
            write!(head, "\n<link rel=\"canonical\" href=\"{}\">", escaped(&url))
                .unwrap();
        }
        head
    }

    /// The pages of the book as a tree, with a mark at this one.
    fn nav(&self, items: &[BookItem]) -> String {
        let front = first(items).map(address);
        let here = if self.path == "index.html" { front.clone() } else { None };
        let nav = Nav {
            here: here.unwrap_or_else(|| self.path.clone()),
            front: front.unwrap_or_default(),
            root: self.to_root(),
        };
        nav.list(items)
    }

    /// The way from this page to the root of the site. Where mdBook gives a page a `base`, that
    /// is the root.
    fn to_root(&self) -> String {
        "../".repeat(self.path.matches('/').count())
    }
}

struct Nav {
    here: String,
    front: String,
    root: String,
}

impl Nav {
    fn list(&self, items: &[BookItem]) -> String {
        let mut html = String::new();
        let mut open = false;
        for item in items {
            match item {
                BookItem::PartTitle(title) => {
                    html += if open { "</ul>\n" } else { "" };
                    open = false;
                    writeln!(html, "<p class=\"title\">{}</p>", escaped(title))
                        .unwrap();
                }
                BookItem::Chapter(chapter) => {
                    html += if open { "" } else { "<ul>\n" };
                    open = true;
                    html += &self.entry(chapter);
                }
                BookItem::Separator => {}
            }
        }
        html + if open { "</ul>" } else { "" }
    }

    fn entry(&self, chapter: &Chapter) -> String {
        let below = match &*chapter.sub_items {
            [] => String::new(),
            items => format!("\n{}", self.list(items)),
        };
        let name = escaped(&chapter.name);
        if chapter.is_draft_chapter() {
            return format!("<li>{name}{below}</li>\n");
        }
        let path = address(chapter);
        let here = if path == self.here { " aria-current=\"page\"" } else { "" };
        let path = if path == self.front { "index.html" } else { &path };
        format!("<li><a href=\"{}{path}\"{here}>{name}</a>{below}</li>\n", self.root)
    }
}

/// The path of the chapter's page from the root of the site.
fn address(chapter: &Chapter) -> String {
    let path = chapter.path.clone().unwrap_or_default().with_extension("html");
    path.to_string_lossy().replace('\\', "/")
}

fn first(items: &[BookItem]) -> Option<&Chapter> {
    items.iter().find_map(|item| match item {
        BookItem::Chapter(chapter) if !chapter.is_draft_chapter() => Some(chapter),
        _ => None,
    })
}

/// The names of the scripts that theme/search.js searches.
struct Search {
    index: String,
    texts: String,
}

impl Search {
    fn write(folder: &Path, pages: &[Page]) -> Result<Search> {
        Ok(Search {
            index: write_hashed(folder, "search-index", &search::index(pages))?,
            texts: write_hashed(folder, "search-texts", &search::texts(pages))?,
        })
    }
}

/// Writes a script with a name that changes with its content, so that browsers may keep it.
fn write_hashed(folder: &Path, name: &str, script: &str) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    script.hash(&mut hasher);
    let name = format!("{name}-{:08x}.js", hasher.finish() as u32);
    fs::write(folder.join(&name), script)?;
    Ok(name)
}

/// Removes what mdBook adds for its own template and ours does not ask for, on any page.
fn remove_unused(folder: &Path, page: &Page, search: &Search) -> Result<()> {
    let used = [&page.before, &page.after, &search.index, &search.texts];
    for folder in [folder, &folder.join("css")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let asset = name.ends_with(".css") || name.ends_with(".js");
            let unused = asset && !used.iter().any(|text| text.contains(name));
            if unused || name == "toc.html" {
                fs::remove_file(&path)?;
            }
        }
    }
    fs::remove_dir(folder.join("css"))
        .context("mdBook has stylesheets that are in use")
}
