//! The console blocks: each is executed, in the order of its page, and what is printed must be
//! what the page shows.
//!
//! A page is written for `127.0.0.1:3000`; here its programs listen on a free port, and the
//! addresses are exchanged in what is typed and in what is printed. The values of the headers that
//! say when may differ: `date`, and of a file `last-modified` and `etag`. Programs and commands run in a new
//! folder of the page, which holds the LICENSE of the book alone: what they write stays there. `SNAPSHOTS=overwrite cargo test transcripts` writes into
//! the pages what the programs print today.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use book::{Action, Console, Page, Step};
use snapbox::Assert;
use snapbox::data::Data;
use snapbox::report::Palette;

use crate::program::{LIMIT, spawn};
use crate::{cargo, root, the_book};

/// Where the programs of the pages listen.
const ADDRESS: &str = "127.0.0.1:3000";

/// Executes the console blocks of a page, `src/server/echo.md`.
///
/// # Panics
///
/// If something else is printed than the page shows: with the difference, as one of the page.
pub fn transcript(page: &str) {
    let page = the_book().pages.iter().find(|known| known.path == page);
    execute(page.expect("build.rs has named the page"));
}

/// Executes a page, and compares it with itself as it should be.
fn execute(page: &Page) {
    let folder = root().join("target/tmp/transcripts").join(page.name());
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).unwrap();
    fs::copy(root().join("LICENSE"), folder.join("LICENSE")).unwrap();
    let mut terminal = Terminal::default();
    terminal.folder = folder;
    // The lines that the page shows: where, how many, and what they should be.
    let mut printed: Vec<(usize, usize, Vec<String>)> = Vec::new();
    let mut background = Vec::new();
    for console in page.consoles() {
        if console.background {
            background.push((terminal.begin(&console), console));
            continue;
        }
        terminal.block(&console, &mut printed);
        for (begun, console) in background.drain(..) {
            for (step, output) in console.steps.iter().zip(terminal.finish(begun)) {
                printed.push((step.line, step.output.len(), output));
            }
        }
    }
    assert!(
        background.is_empty(),
        "{}: nothing follows the block in the background",
        page.path
    );

    terminal.kill();

    let mut lines: Vec<String> = page.source.lines().map(str::to_owned).collect();
    printed.sort_by_key(|(line, ..)| std::cmp::Reverse(*line));
    for (line, count, mut output) in printed {
        let shown = line - 1..line - 1 + count;
        for (printed, shown) in output.iter_mut().zip(&lines[shown.clone()]) {
            let when = ["date: ", "last-modified: ", "etag: "];
            if when.iter().any(|h| printed.starts_with(h) && shown.starts_with(h)) {
                printed.clone_from(shown);
            }
        }
        lines.splice(shown, output);
    }
    let actual = lines.join("\n") + "\n";
    let expected = Data::read_from(&root().join(&page.path), None).raw();
    Assert::new()
        .palette(Palette::plain())
        .action_env("SNAPSHOTS")
        .eq(actual, expected);
}

/// A block in the background.
enum Begun {
    Interrupted(Vec<String>),
    Commands(Vec<(Child, Receiver<String>)>),
}

/// The reader's two terminals: the program runs in the one, commands are typed in the other.
#[derive(Default)]
struct Terminal {
    folder: PathBuf,
    program: Option<(Child, Receiver<String>)>,
    address: String,
    status: Option<i32>,
}

impl Terminal {
    /// Executes the steps of a block, and adds what they print.
    fn block(
        &mut self,
        console: &Console,
        printed: &mut Vec<(usize, usize, Vec<String>)>,
    ) {
        let last_interrupt =
            console.steps.iter().rposition(|s| s.action == Action::Interrupt);
        for (index, step) in console.steps.iter().enumerate() {
            let mut output = match &step.action {
                Action::Start { bin, arguments } => {
                    self.start(bin, arguments);
                    self.program_output(step.output.len())
                }
                Action::Continue => self.program_output(step.output.len()),
                Action::Run { bin, arguments } => {
                    let client = self.client(bin, arguments);
                    self.client_output(client)
                }
                Action::Interrupt => {
                    self.interrupt();
                    self.program_output(step.output.len())
                }
                Action::Shell(command) => {
                    let command = self.shell(command);
                    self.shell_output(command)
                }
                Action::Status => {
                    vec![self.status.expect("a program has ended").to_string()]
                }
            };
            if Some(index) == last_interrupt {
                output.extend(self.end());
            }
            printed.push((step.line, step.output.len(), output));
        }
    }

    fn start(&mut self, bin: &str, arguments: &[String]) {
        self.kill();
        let mut command = Command::new(cargo::program(bin));
        let arguments =
            if arguments.is_empty() { &[ADDRESS.to_owned()] } else { arguments };
        command.args(
            arguments.iter().map(|argument| argument.replace(ADDRESS, "127.0.0.1:0")),
        );
        command.current_dir(&self.folder);
        self.program = Some(spawn(command));
    }

    /// Runs a client against the running program.
    fn client(&self, bin: &str, arguments: &[String]) -> (Child, Receiver<String>) {
        let mut command = Command::new(cargo::program(bin));
        command
            .args(arguments.iter().map(|a| a.replace(ADDRESS, &self.address)))
            .stdin(Stdio::null())
            // It goes through no proxy of whoever runs the tests.
            .env("NO_PROXY", "127.0.0.1")
            .current_dir(&self.folder);
        spawn(command)
    }

    fn client_output(
        &mut self,
        (mut child, lines): (Child, Receiver<String>),
    ) -> Vec<String> {
        let output = self.rest(&lines, "the end of the client");
        self.status = Some(exit(child.wait().unwrap()));
        assert!(
            !output.iter().any(|line| line.contains("panicked")),
            "the client panics:\n{}",
            output.join("\n")
        );
        output
    }

    /// The next lines of the program, fewer if it prints fewer.
    fn program_output(&mut self, count: usize) -> Vec<String> {
        let (_, lines) = self.program.as_ref().expect("a program is running");
        let mut output = Vec::new();
        while output.len() < count
            && let Ok(line) = lines.recv_timeout(LIMIT)
        {
            if let Some(url) = line.strip_prefix("listening on http")
                && let Some((_, address)) = url.split_once("://")
            {
                address.clone_into(&mut self.address);
            }
            output.push(self.shown(&line));
        }
        output
    }

    /// Waits for the end of the program; the lines that it still prints.
    fn end(&mut self) -> Vec<String> {
        let (mut child, lines) = self.program.take().expect("a program is running");
        let output = self.rest(&lines, "the end of the program");
        self.status = Some(exit(child.wait().unwrap()));
        output
    }

    /// Begins a block that goes on while the next one is executed.
    fn begin(&mut self, console: &Console) -> Begun {
        if let [Step { action: Action::Interrupt, .. }] = console.steps[..] {
            self.interrupt();
            // With its first word the program shows that it has heard.
            return Begun::Interrupted(self.program_output(1));
        }
        let commands = console.steps.iter().map(|step| match &step.action {
            Action::Shell(command) => self.shell(command),
            other => panic!("curl or ^C goes on in the background, not {other:?}"),
        });
        Begun::Commands(commands.collect())
    }

    /// What the steps of a block have printed that was begun.
    fn finish(&mut self, begun: Begun) -> Vec<Vec<String>> {
        match begun {
            Begun::Interrupted(mut output) => {
                output.extend(self.end());
                vec![output]
            }
            Begun::Commands(commands) => commands
                .into_iter()
                .map(|command| self.shell_output(command))
                .collect(),
        }
    }

    fn interrupt(&self) {
        let (child, _) = self.program.as_ref().expect("a program is running");
        let pid = child.id().to_string();
        assert!(
            Command::new("kill").args(["-INT", &pid]).status().unwrap().success()
        );
    }

    fn shell(&self, command: &str) -> (Child, Receiver<String>) {
        let command = command.replace(ADDRESS, &self.address);
        // In a terminal curl shows no meter here, and each line at once. It takes no settings of
        // whoever runs the tests, and connects to this machine alone, whatever it is asked for.
        let command = command.replacen(
            "curl",
            "curl -q --noproxy '*' --connect-to ::127.0.0.1: --no-progress-meter --no-buffer --max-time 20",
            1,
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).stdin(Stdio::null()).current_dir(&self.folder);
        spawn(shell)
    }

    fn shell_output(
        &self,
        (mut child, lines): (Child, Receiver<String>),
    ) -> Vec<String> {
        let output = self.rest(&lines, "the end of curl");
        let status = child.wait().unwrap();
        assert!(
            status.success() || output.iter().any(|line| line.starts_with("curl: (")),
            "curl fails ({status}) and does not say why: {output:?}"
        );
        output
    }

    /// What is still printed, up to the end.
    fn rest(&self, lines: &Receiver<String>, what: &str) -> Vec<String> {
        let mut output = Vec::new();
        loop {
            match lines.recv_timeout(LIMIT) {
                Ok(line) => output.push(self.shown(&line)),
                Err(RecvTimeoutError::Disconnected) => return output,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited {LIMIT:?} in vain for {what}")
                }
            }
        }
    }

    /// A printed line as the page shows it.
    fn shown(&self, line: &str) -> String {
        let line = line.trim_end();
        if self.address.is_empty() {
            line.to_owned()
        } else {
            line.replace(&self.address, ADDRESS)
        }
    }

    /// Ends the program. What it has printed that no block shows must not be a panic.
    fn kill(&mut self) {
        if let Some((mut child, lines)) = self.program.take() {
            child.kill().ok();
            child.wait().ok();
            let unseen: Vec<String> = lines.try_iter().collect();
            assert!(
                std::thread::panicking()
                    || !unseen.iter().any(|line| line.contains("panicked")),
                "the program panics, and the page does not show it:\n{}",
                unseen.join("\n")
            );
        }
    }
}

/// As a shell counts: a program that a signal ended has 128 and the signal.
fn exit(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| {
        128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap()
    })
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.kill();
    }
}
