//! The files for programs that read the site: llms.txt, llms-full.txt and sitemap.xml.

use std::fmt::Write;

use mdbook_renderer::RenderContext;
use mdbook_renderer::book::BookItem;

use crate::{Page, Whole, address};

/// Every page with its description: <https://llmstxt.org>.
pub fn summary(whole: &Whole, ctx: &RenderContext, pages: &[Page]) -> String {
    let mut text = format!("# {}\n\n> {}\n\n", whole.title, whole.description);
    let full = whole.address("llms-full.txt");
    writeln!(text, "The whole guide as one text: [llms-full.txt]({full})\n").unwrap();
    writeln!(text, "Tested with {}.\n\n## Pages\n", whole.versions).unwrap();
    for item in ctx.book.iter() {
        match item {
            BookItem::PartTitle(title) => writeln!(text, "\n## {title}\n").unwrap(),
            BookItem::Chapter(chapter) if !chapter.is_draft_chapter() => {
                let path = address(chapter);
                let page = pages.iter().find(|page| page.path == path);
                let description = page.map(|page| page.content.description());
                let description = description.unwrap_or_default();
                let url = whole.address(&path);
                writeln!(text, "- [{}]({url}): {description}", chapter.name).unwrap();
            }
            _ => {}
        }
    }
    text
}

/// The text of all pages, as Markdown. A block shows what its page shows; the programs around
/// such blocks stand whole at the end of the page, each once.
pub fn full(whole: &Whole, ctx: &RenderContext) -> String {
    let mut text =
        format!("> {} Tested with {}.\n\n", whole.description, whole.versions);
    for chapter in ctx.book.chapters() {
        let mut programs: Vec<String> = Vec::new();
        let mut shown: Vec<String> = Vec::new();
        let mut block: Option<(String, String, String)> = None;
        for line in chapter.content.lines() {
            let Some((fence, all, visible)) = &mut block else {
                writeln!(text, "{line}").unwrap();
                let ticks = line.len() - line.trim_start_matches('`').len();
                if ticks >= 3 && line[ticks..].starts_with("rust") {
                    block = Some((
                        line[..ticks].to_owned(),
                        String::new(),
                        String::new(),
                    ));
                }
                continue;
            };
            if line.trim_end() == fence {
                write!(text, "{}\n{line}\n", visible.trim_matches('\n')).unwrap();
                if all != visible && !programs.contains(all) {
                    programs.push(all.clone());
                }
                shown.push(visible.clone());
                block = None;
                continue;
            }
            let code = line.trim_start();
            let hidden = if code == "#" { Some("") } else { code.strip_prefix("# ") };
            if hidden.is_none() {
                writeln!(visible, "{line}").unwrap();
            }
            writeln!(all, "{}", hidden.unwrap_or(line)).unwrap();
        }
        for program in programs.iter().filter(|program| {
            !shown.iter().any(|shown| shown.contains(program.trim_matches('\n')))
        }) {
            let program = program.trim_matches('\n');
            write!(text, "\nThe whole program:\n\n```rust\n{program}\n```\n")
                .unwrap();
        }
        text.push('\n');
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
