//! The files for programs that read the site: llms.txt, llms-full.txt and sitemap.xml.

use std::fmt::Write;

use book::Book;
use mdbook_renderer::RenderContext;
use mdbook_renderer::book::BookItem;

use crate::{Page, Whole, address};

/// Every page with its description: <https://llmstxt.org>.
pub fn summary(whole: &Whole, ctx: &RenderContext, pages: &[Page]) -> String {
    let mut text = format!("# {}\n\n> {}\n\n", whole.title, whole.description);
    let full = whole.address("llms-full.txt");
    writeln!(text, "The whole guide as one text: [llms-full.txt]({full})\n").unwrap();
    writeln!(text, "Tested with {}.\n\n## Pages\n", whole.versions).unwrap();
    let mut pages = pages.iter();
    for item in ctx.book.iter() {
        match item {
            BookItem::PartTitle(title) => writeln!(text, "\n## {title}\n").unwrap(),
            BookItem::Chapter(chapter) => {
                let (url, name) = (whole.address(&address(chapter)), &chapter.name);
                let description = pages.next().map(|page| page.content.description());
                let description = description.unwrap_or_default();
                writeln!(text, "- [{name}]({url}): {description}").unwrap();
            }
            BookItem::Separator => {}
        }
    }
    text
}

/// The text of all pages, as Markdown. A block shows what its page shows; the programs around
/// such blocks stand whole at the end of the page, each once.
pub fn full(whole: &Whole, ctx: &RenderContext, book: &Book) -> String {
    let mut text =
        format!("> {} Tested with {}.\n\n", whole.description, whole.versions);
    for (chapter, page) in ctx.book.chapters().zip(&book.pages) {
        let content = whole.with_clone(&chapter.content, "```sh\n", "```");
        let mut rest = &*content;
        let mut programs: Vec<String> = Vec::new();
        for block in page.blocks.iter().filter(|block| block.is_rust()) {
            let Some((before, after)) = rest.split_once(&block.text) else {
                continue;
            };
            let (shown, program) = (block.shown(), block.whole());
            writeln!(text, "{before}{}", shown.trim_matches('\n')).unwrap();
            rest = after;
            if program != shown && !programs.contains(&program) {
                programs.push(program);
            }
        }
        writeln!(text, "{rest}").unwrap();
        for program in programs {
            let program = program.trim_matches('\n');
            if !page.blocks.iter().any(|block| block.shown().contains(program)) {
                write!(text, "\nThe whole program:\n\n```rust\n{program}\n```\n")
                    .unwrap();
            }
        }
    }
    text
}

/// The addresses of all pages: <https://www.sitemaps.org/protocol.html>.
pub fn sitemap(whole: &Whole, pages: &[Page]) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n",
    );
    for (number, page) in pages.iter().enumerate() {
        let path = if number == 0 { "index.html" } else { &page.path };
        writeln!(xml, "<url><loc>{}</loc></url>", whole.address(path)).unwrap();
    }
    xml + "</urlset>\n"
}
