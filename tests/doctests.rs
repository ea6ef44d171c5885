//! The Rust blocks of the pages, as the tests that build.rs makes of them.

include!(concat!(env!("OUT_DIR"), "/doctests.rs"));

/// Runs a block by skeptic, in a process of its own: so it can be stopped when it does not
/// end, and what rustc says of it can be told in terms of the page.
mod runner {
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;
    use std::{env, panic, thread};

    use reader::Book;
    use regex::Regex;
    use wait_timeout::ChildExt;

    /// Compiling takes seconds; a block that takes longer than this does not end by itself.
    const TIME_LIMIT: Duration = Duration::from_secs(60);
    /// Set in the process that compiles and runs the block.
    const CHILD: &str = "HYPER_GUIDE_DOCTEST";

    /// Compiles a block. The arguments are skeptic's.
    pub fn compile_test(root: &str, out: &str, target: &str, program: &str) {
        run(root, || skeptic::rt::compile_test(root, out, target, program));
    }

    /// Compiles and runs a block. The arguments are skeptic's.
    pub fn run_test(root: &str, out: &str, target: &str, program: &str) {
        run(root, || skeptic::rt::run_test(root, out, target, program));
    }

    fn run(root: &str, block: impl FnOnce()) {
        if env::var_os(CHILD).is_some() {
            return block();
        }
        // libtest names the thread of a test after the test.
        let test = thread::current().name().unwrap().to_owned();
        let mut child = Command::new(env::current_exe().unwrap())
            .args([&test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(|| io::read_to_string(stderr).unwrap());

        let status = child.wait_timeout(TIME_LIMIT).unwrap();
        if status.is_some_and(|status| status.success()) {
            return;
        }
        let mut why = "fails".to_owned();
        if status.is_none() {
            why = format!(
                "does not end within {TIME_LIMIT:?}. A server's block is `rust,no_run`, and a test in snippets/tests runs the program"
            );
            // The group: the block's own program too.
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
            child.wait().unwrap();
        }
        eprintln!("{}", explain(root, &test, &why, &stderr.join().unwrap()));
        panic::resume_unwind(Box::new("the block fails"));
    }

    /// What is wrong with a block, with the place in the page or program where it was written,
    /// and without skeptic's own panic, which lists every argument of rustc.
    fn explain(root: &str, test: &str, why: &str, stderr: &str) -> String {
        let book = Book::read(Path::new(root)).expect("build.rs has read it");
        let block = book.blocks().find(|block| block.test_name() == test);
        let block = block.expect("build.rs has named the test after it");
        let own = stderr.split(&format!("\nthread '{test}'")).next().unwrap();
        let file = Regex::new(r"\S*rust-skeptic\w+/test\.rs").unwrap();
        let own = file.replace_all(own, &block.origin);
        let hint = if own.contains("unresolved import") {
            "A crate that a page uses is also a dev-dependency in the root Cargo.toml.\n"
        } else {
            ""
        };
        format!("{}:{}: this block {why}\n\n{own}{hint}", block.page, block.line)
    }
}
