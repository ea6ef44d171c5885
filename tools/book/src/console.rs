//! Console blocks: what a reader types, and what the programs answer.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::Block;

/// A parsed console block. What the test of the transcripts does with each step is said there,
/// in `tools/harness/src/transcript.rs`.
#[derive(Debug)]
pub struct Console {
    /// The line of the fence in the page, counted from 1.
    pub line: usize,
    /// Whether the next console block of the page happens while this one still runs
    /// (`console,background`).
    pub background: bool,
    pub steps: Vec<Step>,
}

/// What one line of a console block asks for, and the lines that are to be printed then.
#[derive(Debug)]
pub struct Step {
    pub action: Action,
    /// The line in the page of the first line of `output`, counted from 1.
    pub line: usize,
    /// The printed lines that the page shows.
    pub output: Vec<String>,
}

/// What happens before the output of a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the block goes on in the terminal of the running program.
    Continue,
    /// `$ cargo run --bin NAME`, with the arguments after `--`.
    Start { bin: String, arguments: Vec<String> },
    /// The same with a URL among the arguments, `http://127.0.0.1:3000/`: a client, which runs to
    /// its end beside the running program.
    Run { bin: String, arguments: Vec<String> },
    /// `$ curl ...`: the whole command, for the shell.
    Shell(String),
    /// `$ echo $?`: the exit status of the program that ended last.
    Status,
    /// `^C`: Ctrl+C in the terminal of the running program.
    Interrupt,
}

impl Console {
    /// Parses a `console` block.
    ///
    /// # Errors
    ///
    /// The line in the page that cannot be executed, and why.
    pub fn parse(block: &Block) -> Result<Console, (usize, String)> {
        let mut steps: Vec<Step> = Vec::new();
        for (index, text) in block.text.lines().enumerate() {
            let line = block.line + 1 + index;
            let action = if let Some(command) = text.strip_prefix("$ ") {
                command_action(command).map_err(|message| (line, message))?
            } else if text == "^C" {
                Action::Interrupt
            } else {
                if steps.is_empty() {
                    steps.push(Step {
                        action: Action::Continue,
                        line,
                        output: Vec::new(),
                    });
                }
                steps.last_mut().unwrap().output.push(text.to_owned());
                continue;
            };
            steps.push(Step { action, line: line + 1, output: Vec::new() });
        }
        let background = block.fence == "console,background";
        Ok(Console { line: block.line, background, steps })
    }
}

/// Whether this is one curl, and asks this machine alone: a shell executes it.
fn harmless(command: &str) -> Result<(), String> {
    // The one substitution in use makes a body of N bytes.
    static BYTES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\$\(printf '%0\d+d' \d+\)").unwrap());
    let text = BYTES.replace_all(command, "");
    // A quoted word is data, or an address.
    let quoted = Regex::new(r"'(\w+://)?([^']*)'").unwrap();
    let text = quoted.replace_all(&text, |found: &Captures| match found.get(1) {
        Some(scheme) => {
            scheme.as_str().to_owned() + found[2].split('?').next().unwrap()
        }
        None => String::new(),
    });
    if let Some(c) = text.chars().find(|c| ";|&<>`$".contains(*c)) {
        return Err(format!(
            "`{command}` has `{c}`: a console block runs one curl, without other commands or files. \
             Put text between single quotes, or show the command in an `sh` block"
        ));
    }
    let asked = text.split_whitespace();
    asks_here(asked.filter(|word| word.contains("://") || word.contains(":3000")))
}

/// Whether each of these addresses is that of the running program, or a name under `test`, which
/// [nobody has](https://www.rfc-editor.org/rfc/rfc6761#section-6.2).
fn asks_here<'a>(mut addresses: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let url = Regex::new(r"^(https?://)?(127\.0\.0\.1:3000|\w+\.test)(/|$)").unwrap();
    match addresses.find(|word| !url.is_match(word.trim_matches('"'))) {
        None => Ok(()),
        Some(other) => Err(format!(
            "`{other}` is not 127.0.0.1:3000, where the program of the page listens: ask that, or show \
             the command in an `sh` block"
        )),
    }
}

fn command_action(command: &str) -> Result<Action, String> {
    let words = command.split_whitespace().map(|word| word.trim_matches('\''));
    let words: Vec<&str> = words.collect();
    match words[..] {
        ["cargo", "run", "--bin", bin, ref rest @ ..] => {
            let arguments = match rest {
                ["--", arguments @ ..] => arguments,
                rest => rest,
            };
            let urls = arguments.iter().copied().filter(|word| word.contains("://"));
            asks_here(urls.clone())?;
            let is_client = urls.count() > 0;
            let bin = bin.to_owned();
            let arguments =
                arguments.iter().map(|argument| argument.to_string()).collect();
            if is_client {
                Ok(Action::Run { bin, arguments })
            } else {
                Ok(Action::Start { bin, arguments })
            }
        }
        ["echo", "$?"] => Ok(Action::Status),
        ["curl", ..] => {
            harmless(command)?;
            Ok(Action::Shell(command.to_owned()))
        }
        _ => Err(format!(
            "`{command}` cannot be executed: a console block runs `cargo run --bin NAME`, \
             `curl ...` and `echo $?`. Show another command in an `sh` block"
        )),
    }
}
