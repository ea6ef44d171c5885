//! The text of one page: fixes the HTML that mdBook made of it, and reads from it what the rest
//! of the site says about the page.

use std::collections::HashMap;

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

use crate::highlight::highlight;

/// What the page says.
#[derive(Default)]
pub struct Content {
    /// The HTML, fixed.
    pub html: String,
    /// A heading and what stands below it, up to the next one.
    pub sections: Vec<Section>,
    /// The paragraphs, as plain text.
    pub paragraphs: Vec<String>,
    /// The programs that are shown in parts, each once: many blocks are parts of one program.
    pub programs: Vec<String>,
}

#[derive(Default)]
pub struct Section {
    /// 1 for `h1`, the title of the page.
    pub level: u8,
    /// The fragment of its address.
    pub id: String,
    pub title: String,
    /// The prose, as plain text.
    pub text: String,
    /// The lines of its code blocks that are shown.
    pub code: String,
    /// Those that are hidden.
    pub hidden: String,
    /// What readers may call it, from a comment `<!-- also: … -->`: for the search alone.
    pub also: String,
}

impl Content {
    /// Reads and fixes the HTML of a page.
    pub fn of(html: &str) -> Content {
        let mut reader = Reader { html, ..Reader::default() };
        let emitter = DefaultEmitter::<usize>::new_with_span();
        for token in Tokenizer::new_with_emitter(html, emitter) {
            let Ok(token) = token;
            reader.token(token);
        }
        reader.copy_until(html.len());
        let mut content = reader.content;
        // The corner of a table is not the heading of anything.
        content.html = content.html.replace("<th></th>", "<td></td>");
        for section in &mut content.sections {
            section.text = one_line(&section.text);
            section.title = one_line(&section.title);
        }
        content
    }

    /// What search engines show below the title: the first sentences, at most 160 characters.
    pub fn description(&self) -> String {
        let text = self.paragraphs.join(" ");
        let end = text.char_indices().nth(160).map_or(text.len(), |(at, _)| at);
        if end == text.len() {
            return text;
        }
        match text[..end].rfind(". ") {
            Some(at) if at >= 49 => text[..=at].to_owned(),
            _ => {
                let words = text[..end - 1].rfind(' ').unwrap_or(end);
                format!("{}…", text[..words].trim_end_matches([',', ':', ';']))
            }
        }
    }

    /// The number of the program that has these lines.
    fn program(&mut self, lines: &[Line]) -> usize {
        let program: Vec<&str> = lines.iter().map(|line| line.text).collect();
        let program = program.join("\n");
        let known = self.programs.iter().position(|known| *known == program);
        known.unwrap_or_else(|| {
            self.programs.push(program);
            self.programs.len() - 1
        })
    }

    /// The list of the sections, for the column "On this page".
    pub fn outline(&self) -> String {
        let mut list = String::from("<p class=\"title\">On this page</p>\n<ul>\n");
        for section in self.sections.iter().filter(|section| section.level <= 3) {
            let (level, id) = (section.level, &section.id);
            let title = if level == 1 { "Overview" } else { &section.title };
            let title = escaped(title);
            list += &format!(
                "<li class=\"level-{level}\"><a href=\"#{id}\">{title}</a></li>\n"
            );
        }
        list + "</ul>"
    }
}

#[derive(Default)]
struct Reader<'a> {
    html: &'a str,
    /// Up to here the HTML is copied, or replaced.
    copied: usize,
    content: Content,
    heading: bool,
    paragraph: Option<String>,
    /// The depth of the pictures around the token: their text is no prose.
    picture: usize,
    block: Option<Block>,
    /// How many scrolling boxes have this name.
    names: HashMap<String, usize>,
}

/// A code block that is being read.
#[derive(Default)]
struct Block {
    language: String,
    text: String,
    /// Whether the text read now is hidden, and of each line whether it is.
    hidden: bool,
    lines: Vec<bool>,
}

impl Reader<'_> {
    fn token(&mut self, token: Token<usize>) {
        match token {
            Token::StartTag(tag) => self.start(&tag),
            Token::EndTag(tag) => self.end(&name(&tag.name), tag.span.end),
            Token::String(text) => self.text(&name(&text.value)),
            Token::Comment(comment) => {
                let text = name(&comment.value);
                if let Some(words) = text.trim_start().strip_prefix("also:") {
                    self.copy_until(comment.span.start);
                    self.copied = comment.span.end;
                    if let Some(section) = self.content.sections.last_mut() {
                        section.also += &one_line(words);
                    }
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: &StartTag<usize>) {
        let class = attribute(tag, "class");
        match &*name(&tag.name) {
            "code" => {
                if let Some(block) = &mut self.block {
                    let language =
                        class.split(' ').find_map(|it| it.strip_prefix("language-"));
                    block.language = language.unwrap_or("text").to_owned();
                }
            }
            "span" => {
                if let Some(block) = &mut self.block {
                    block.hidden = class == "boring";
                }
            }
            "pre" => {
                self.copy_until(tag.span.start);
                self.block = Some(Block::default());
            }
            "div" if class == "table-wrapper" => {
                self.copy_until(tag.span.start);
                let label = self.box_name("Table");
                self.content.html += &format!("<div class=\"table\" {label}>");
                self.copied = tag.span.end;
            }
            "svg" => self.picture += 1,
            "p" => self.paragraph = Some(String::new()),
            heading if level(heading).is_some() => {
                self.heading = true;
                self.content.sections.push(Section {
                    level: level(heading).unwrap(),
                    id: attribute(tag, "id"),
                    ..Section::default()
                });
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, end: usize) {
        match name {
            "span" => {
                if let Some(block) = &mut self.block {
                    block.hidden = false;
                }
            }
            "pre" => {
                if let Some(block) = self.block.take() {
                    self.code_block(&block);
                    self.copied = end;
                }
            }
            "svg" => self.picture -= 1,
            "p" => {
                let paragraph = self.paragraph.take().unwrap_or_default();
                self.content.paragraphs.push(one_line(&paragraph));
            }
            _ if level(name).is_some() => self.heading = false,
            _ => {}
        }
        // What ends here and what follows are two words, if they are two boxes.
        if !["a", "code", "em", "strong", "span", "kbd", "sup"].contains(&name)
            && let Some(section) = self.content.sections.last_mut()
        {
            section.text.push(' ');
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(block) = &mut self.block {
            for piece in text.split_inclusive('\n') {
                if block.text.is_empty() || block.text.ends_with('\n') {
                    block.lines.push(block.hidden);
                }
                block.text += piece;
            }
            return;
        }
        if self.picture > 0 {
            return;
        }
        if let Some(paragraph) = &mut self.paragraph {
            paragraph.push_str(text);
        }
        let Some(section) = self.content.sections.last_mut() else { return };
        let part = if self.heading { &mut section.title } else { &mut section.text };
        part.push_str(text);
    }

    /// Copies the HTML that has not been copied or replaced yet, up to here.
    fn copy_until(&mut self, end: usize) {
        self.content.html.push_str(&self.html[self.copied..end]);
        self.copied = end;
    }

    /// What makes a box that may scroll reachable by the keyboard. Its name is its own: screen
    /// readers list them.
    fn box_name(&mut self, what: &str) -> String {
        let section = self.content.sections.last();
        let title = section.map_or("", |section| section.title.trim());
        let name = format!("{what}: {title}");
        let count = self.names.entry(name.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { name } else { format!("{name} ({count})") };
        format!("tabindex=\"0\" role=\"region\" aria-label=\"{}\"", escaped(&name))
    }

    fn code_block(&mut self, block: &Block) {
        let lines = block.lines();
        let language = &block.language;
        let what = if language == "console" { "Terminal" } else { "Code" };
        let label = self.box_name(what);
        let mut program = String::new();
        if lines.iter().any(|line| line.hidden) {
            let (number, shown) = (self.content.program(&lines), ranges(&lines));
            program = format!(" data-program=\"{number}\" data-shown=\"{shown}\"");
        }
        let shown = lines.iter().filter(|line| !line.hidden);
        let code: String = shown.map(|line| line.html.clone() + "\n").collect();
        self.content.html += &format!(
            "<div class=\"code {language}\"{program}><pre {label}><code>{code}</code></pre></div>"
        );
        if let Some(section) = self.content.sections.last_mut() {
            for line in lines {
                let part =
                    if line.hidden { &mut section.hidden } else { &mut section.code };
                *part += line.text;
                part.push('\n');
            }
        }
    }
}

/// The numbers of the lines that are shown, counted from 0: `3-7 9-9`.
fn ranges(lines: &[Line]) -> String {
    let mut ranges: Vec<String> = Vec::new();
    let mut at = 0;
    for run in lines.chunk_by(|a, b| a.hidden == b.hidden) {
        if !run[0].hidden {
            ranges.push(format!("{at}-{}", at + run.len() - 1));
        }
        at += run.len();
    }
    ranges.join(" ")
}

struct Line<'a> {
    text: &'a str,
    html: String,
    hidden: bool,
}

impl Block {
    /// The lines, coloured where they are shown.
    fn lines(&self) -> Vec<Line<'_>> {
        let lines = self.text.lines().zip(self.lines.iter().copied());
        let lines =
            lines.map(|(text, hidden)| Line { text, html: String::new(), hidden });
        let mut lines: Vec<Line> = lines.collect();
        hide_blank_lines(&mut lines);
        let mut index = 0;
        for (kind, piece) in highlight(&self.language, &self.text) {
            for (number, part) in piece.split('\n').enumerate() {
                index += usize::from(number > 0);
                let Some(line) = lines.get_mut(index) else { break };
                line.html += &match kind {
                    Some(kind) if !part.is_empty() => {
                        format!("<span class=\"{kind}\">{}</span>", escaped(part))
                    }
                    _ => escaped(part),
                };
            }
        }
        lines
    }
}

/// Hidden lines take the blank lines around them along: between what is shown above and below,
/// one blank line stays, if there was any.
fn hide_blank_lines(lines: &mut [Line]) {
    let shown = |line: &Line| !line.hidden && !line.text.trim().is_empty();
    let runs = lines.chunk_by(|a, b| shown(a) == shown(b)).count();
    for (number, run) in lines.chunk_by_mut(|a, b| shown(a) == shown(b)).enumerate() {
        if shown(&run[0]) || run.iter().all(|line| !line.hidden) {
            continue;
        }
        let inside = number > 0 && number + 1 < runs;
        let kept = run.iter().position(|line| inside && !line.hidden);
        for (number, line) in run.iter_mut().enumerate() {
            line.hidden = Some(number) != kept;
        }
    }
}

fn level(name: &str) -> Option<u8> {
    let digit = name.strip_prefix('h')?.parse().ok()?;
    (1..=6).contains(&digit).then_some(digit)
}

fn name(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn attribute(tag: &StartTag<usize>, wanted: &str) -> String {
    let value = tag.attributes.get(wanted.as_bytes());
    value.map(|value| name(&value.value)).unwrap_or_default()
}

/// The text with each run of white space as one space.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text as HTML, in an attribute too.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::Content;

    fn page(code: &str) -> Content {
        Content::of(&format!(
            "<h1 id=\"a\">A</h1><pre><code class=\"language-rust\">{code}</code></pre>"
        ))
    }

    #[test]
    fn hidden_lines_take_the_blank_lines_around_them_along() {
        let page = page(
            "<span class=\"boring\">use a;\n</span>\n\nfn b() {}\n\n\
             <span class=\"boring\">fn c() {}\n</span>\nfn d() {}\n\n\
             <span class=\"boring\">fn e() {}\n</span>",
        );
        assert_eq!(page.sections[0].code, "fn b() {}\n\nfn d() {}\n");
        assert!(page.html.contains("data-shown=\"3-4 7-7\""), "{}", page.html);
        assert_eq!(page.programs[0].lines().count(), 10);
    }

    #[test]
    fn blank_lines_elsewhere_stay() {
        let page = page("fn a() {}\n\n\nfn b() {}\n");
        assert_eq!(page.sections[0].code, "fn a() {}\n\n\nfn b() {}\n");
    }

    #[test]
    fn added_and_removed_lines_have_colours() {
        let code = "<pre><code class=\"language-diff\"> a\n-b\n+c</code></pre>";
        let lines = " a\n<span class=\"n\">-b</span>\n<span class=\"s\">+c</span>";
        assert!(Content::of(code).html.contains(lines));
    }

    #[test]
    fn colours_do_not_end_at_the_wrong_quote() {
        let page = page("let a = r#\"b\"c\"#; let d: &amp;'e str = \"\\\"\"; 'f';");
        let strings = page.html.split("<span class=\"s\">").skip(1);
        let strings: Vec<_> =
            strings.map(|rest| rest.split("</span>").next()).collect();
        let wanted = ["r#&quot;b&quot;c&quot;#", "&quot;\\&quot;&quot;", "'f'"];
        assert_eq!(strings, wanted.map(Some));
        assert!(page.html.contains("<span class=\"n\">'e</span>"), "{}", page.html);
    }
}
