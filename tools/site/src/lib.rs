//! Finishes the site: what mdBook's templates cannot do.
//!
//! tools/site/theme/index.hbs has marks such as `<!-- site:nav -->`. [`Site`] runs after mdBook's html
//! renderer, puts into each page what belongs there, fixes the HTML of its text, and writes what
//! belongs to no single page: the search index, sitemap.xml, llms.txt and llms-full.txt. To add
//! something to every page, add a mark to the template and fill it in `Page::finish`.

mod content;
mod highlight;
mod machines;
mod search;

use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result};
use book::Book;
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
        let read = |path: &str, title: Option<&str>| {
            Page::read(&folder, path, title, &whole)
        };
        let pages = titles(ctx)
            .into_iter()
            .map(|(chapter, title)| read(&address(chapter), Some(&title)));
        let pages = pages.collect::<Result<Vec<Page>>>()?;
        // The first page is the front page as well: there, it has its address.
        let front = pages.first().context("the book has no pages")?.title.as_deref();
        let others =
            [("index.html", front), ("404.html", None), ("print.html", None)];
        let others = others.into_iter().map(|(path, title)| read(path, title));
        let others = others.collect::<Result<Vec<Page>>>()?;

        let titles = write_hashed(&folder, "search-titles", &search::titles(&pages))?;
        let texts = write_hashed(&folder, "search-texts", &search::texts(&pages))?;
        for page in pages.iter().chain(&others) {
            fs::write(folder.join(&page.path), page.finish(&whole, &titles, &texts))?;
        }

        // It is for mdBook's own template, and links to a file that is not there.
        fs::remove_file(folder.join("toc.html"))?;
        fs::write(folder.join("llms.txt"), machines::summary(&whole, ctx, &pages))?;
        match Book::read(&ctx.root) {
            Ok(book) => {
                let text = machines::full(&whole, ctx, &book);
                fs::write(folder.join("llms-full.txt"), text)?;
            }
            // The page is being written: it shows, and its author hears what `cargo test` will say.
            Err(defects) => defects.iter().for_each(|defect| eprintln!("{defect}")),
        }
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
    /// The commands that fetch the repository, where MDBOOK_OUTPUT__HTML__GIT_REPOSITORY_URL tells
    /// its address.
    clone: Option<String>,
    items: &'a [BookItem],
    front: String,
    versions: String,
}

impl Whole<'_> {
    fn of(ctx: &RenderContext) -> Result<Whole<'_>> {
        let locked = book::locked(&ctx.root);
        let versions = TESTED_WITH.map(|name| format!("{name} {}", locked[name]));
        let text = |key: &str| -> Result<Option<String>> {
            let text = ctx.config.get::<String>(key)?;
            Ok(text.filter(|text| !text.is_empty()))
        };
        let url = text("output.site.url")?;
        let repository = text("output.html.git-repository-url")?;
        Ok(Whole {
            title: ctx.config.book.title.clone().unwrap_or_default(),
            description: ctx.config.book.description.clone().unwrap_or_default(),
            url: url.map(|url| format!("{}/", url.trim_end_matches('/'))),
            clone: repository.map(|url| clone(&url)),
            items: &ctx.book.items,
            front: ctx.book.chapters().next().map(address).unwrap_or_default(),
            versions: versions.join(", "),
        })
    }

    /// The address of a page: whole where the site's own is known, else from its root.
    fn address(&self, path: &str) -> String {
        let path = if path == "index.html" { "" } else { path };
        format!("{}{path}", self.url.as_deref().unwrap_or_default())
    }

    /// The text of a page with the commands in the place of their mark.
    fn with_clone(&self, text: &str, before: &str, after: &str) -> String {
        let commands = self.clone.as_ref();
        let block = commands.map(|commands| format!("{before}{commands}{after}"));
        text.replace("<!-- site:clone -->", &block.unwrap_or_default())
    }
}

fn clone(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let folder = url.rsplit('/').next().unwrap_or(url).trim_end_matches(".git");
    format!("git clone {url}\ncd {folder}\n")
}

/// A page as mdBook has rendered it.
struct Page {
    /// From the root of the site: `server/echo.html`.
    path: String,
    /// Its name in SUMMARY.md, see `titles`. None for those that are not listed there.
    title: Option<String>,
    before: String,
    content: Content,
    after: String,
}

impl Page {
    fn read(
        folder: &Path,
        path: &str,
        title: Option<&str>,
        whole: &Whole,
    ) -> Result<Page> {
        let html = fs::read_to_string(folder.join(path))
            .with_context(|| format!("mdBook has not rendered {path}"))?;
        let parts =
            html.split_once("<!-- site:content -->").and_then(|(before, rest)| {
                let (content, after) = rest.split_once("<!-- site:end -->")?;
                Some((before, content, after))
            });
        let (before, content, after) = parts.context(
            "tools/site/theme/index.hbs must have the marks site:content and site:end",
        )?;
        let block = ("<pre><code class=\"language-sh\">", "</code></pre>");
        Ok(Page {
            path: path.to_owned(),
            title: title.map(str::to_owned),
            before: before.to_owned(),
            content: Content::of(whole.with_clone(content, block.0, block.1).trim()),
            after: after.to_owned(),
        })
    }

    /// The page with everything in its place.
    fn finish(&self, whole: &Whole, titles: &str, texts: &str) -> String {
        let root = self.to_root();
        let marks = [
            ("<!-- site:title -->", self.tab(whole)),
            ("<!-- site:head -->", self.head(whole)),
            ("<!-- site:nav -->", self.nav(whole)),
            ("<!-- site:outline -->", self.content.outline()),
            ("<!-- site:versions -->", format!("Tested with {}.", whole.versions)),
            ("<!-- site:programs -->", self.programs()),
            ("<!-- site:titles -->", format!("{root}{titles}")),
            ("<!-- site:texts -->", format!("{root}{texts}")),
        ];
        let fill = |html: &str| {
            marks
                .iter()
                .fold(html.to_owned(), |html, (mark, text)| html.replace(mark, text))
        };
        format!("{}{}{}", fill(&self.before), self.content.html, fill(&self.after))
    }

    /// The whole programs, for tools/site/theme/site.js. Paper has no buttons that ask for them.
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

    /// What a browser's tab says.
    fn tab(&self, whole: &Whole) -> String {
        let heading = self.content.sections.first().map(|section| &section.title);
        match self.title.as_ref().or(heading) {
            Some(title) if self.path != "index.html" && self.path != "print.html" => {
                escaped(&format!("{title} - {}", whole.title))
            }
            _ => escaped(&whole.title),
        }
    }

    fn head(&self, whole: &Whole) -> String {
        let Some(title) = &self.title else { return String::new() };
        let description = self.content.description();
        let kind = if self.path == "index.html" { "website" } else { "article" };
        let mut head = format!(
            "<meta name=\"description\" content=\"{}\">",
            escaped(&description)
        );
        let mut property = |name: &str, value: &str| {
            let value = escaped(value);
            write!(head, "\n<meta property=\"og:{name}\" content=\"{value}\">")
                .unwrap();
        };
        property("title", title);
        property("type", kind);
        property("site_name", &whole.title);
        property("description", &description);
        if whole.url.is_some() {
            let front = self.path == whole.front;
            let url = whole.address(if front { "index.html" } else { &self.path });
            property("url", &url);
            write!(head, "\n<link rel=\"canonical\" href=\"{}\">", escaped(&url))
                .unwrap();
        }
        head
    }

    /// The pages of the book as a tree, with a mark at this one. Of its parts, the one that this
    /// page is in is open.
    fn nav(&self, whole: &Whole) -> String {
        let mut html = String::new();
        let parts =
            whole.items.chunk_by(|_, next| !matches!(next, BookItem::PartTitle(_)));
        for part in parts {
            let pages = self.list(whole, part);
            if let BookItem::PartTitle(title) = &part[0] {
                let open = if pages.contains("aria-current") { " open" } else { "" };
                let title = escaped(title);
                html += &format!(
                    "<details{open}><summary>{title}</summary>\n{pages}</details>\n"
                );
            } else {
                html += &pages;
            }
        }
        html
    }

    fn list(&self, whole: &Whole, items: &[BookItem]) -> String {
        let mut html = String::new();
        for item in items {
            let BookItem::Chapter(chapter) = item else { continue };
            let path = address(chapter);
            let front = path == whole.front;
            let here = path == self.path || front && self.path == "index.html";
            let here = if here { " aria-current=\"page\"" } else { "" };
            let path = if front { "index.html" } else { &path };
            let (root, name) = (self.to_root(), escaped(&chapter.name));
            let below = self.list(whole, &chapter.sub_items);
            html += &format!(
                "<li><a href=\"{root}{path}\"{here}>{name}</a>{below}</li>\n"
            );
        }
        if html.is_empty() { html } else { format!("<ul>\n{html}</ul>\n") }
    }

    /// The way from this page to the root of the site. Where mdBook gives a page a `base`, that
    /// is the root.
    fn to_root(&self) -> String {
        "../".repeat(self.path.matches('/').count())
    }
}

/// The chapters with the titles that they have outside of the tree of pages: in the search, in a
/// browser's tab. Where two parts of the book have a page of the same name, the part stands beside it.
fn titles(ctx: &RenderContext) -> Vec<(&Chapter, String)> {
    let count = |name: &str| ctx.book.chapters().filter(|c| c.name == name).count();
    let mut part = "";
    let mut titles = Vec::new();
    for item in ctx.book.iter() {
        match item {
            BookItem::PartTitle(title) => part = title,
            BookItem::Chapter(chapter) if count(&chapter.name) > 1 => {
                titles.push((chapter, format!("{} ({part})", chapter.name)));
            }
            BookItem::Chapter(chapter) => {
                titles.push((chapter, chapter.name.clone()))
            }
            BookItem::Separator => {}
        }
    }
    titles
}

/// The path of the chapter's page from the root of the site.
fn address(chapter: &Chapter) -> String {
    let path = chapter.path.clone().unwrap_or_default().with_extension("html");
    path.to_string_lossy().replace('\\', "/")
}

/// Writes a script with a name that changes with its content, so that browsers may keep it.
fn write_hashed(folder: &Path, name: &str, script: &str) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    script.hash(&mut hasher);
    let name = format!("{name}-{:08x}.js", hasher.finish() as u32);
    fs::write(folder.join(&name), script)?;
    Ok(name)
}
