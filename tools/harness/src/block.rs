//! The Rust blocks of the pages: skeptic makes the tests, this compiles and runs them.
//!
//! skeptic's own runner has no time limit, compiles in edition 2021, and its failures name a
//! temporary file and list every argument of rustc. This one says what is wrong in terms of the
//! page. What has compiled is kept in target/tmp/blocks until the block, or a library that it is
//! compiled with, changes.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, LazyLock, Mutex};
use std::time::Duration;
use std::{env, io, panic, thread};

use book::has_main;
use wait_timeout::ChildExt;

use crate::{cargo, root, the_book};

/// A block that runs for longer does not end by itself.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Compiles a block. The arguments are those of skeptic.
pub fn compile_test(_root: &str, _out: &str, _target: &str, program: &str) {
    test(program, false);
}

/// Compiles a block and runs it. The arguments are those of skeptic.
pub fn run_test(_root: &str, _out: &str, _target: &str, program: &str) {
    test(program, true);
}

fn test(program: &str, run: bool) {
    // libtest names the thread of a test after the test and its modules.
    let test =
        thread::current().name().unwrap().rsplit("::").next().unwrap().to_owned();
    let _slot = Slot::wait();
    let result = compile(&test, program, run, false).and_then(|binary| match run {
        true => execute(&binary),
        false => Ok(()),
    });
    if let Err((why, output)) = result {
        eprintln!("{}", explain(&test, &why, &output));
        panic::resume_unwind(Box::new("the block fails"));
    }
}

/// Compiles a program that a test has made from one of the book's, and gives its binary.
///
/// # Panics
///
/// If the program does not compile.
pub fn variant(name: &str, program: &str) -> PathBuf {
    made(name, program, false)
}

/// Like `variant`, and gives the binary that runs the tests in the program.
///
/// # Panics
///
/// If the program does not compile.
pub fn tests_of_variant(name: &str, program: &str) -> PathBuf {
    made(name, program, true)
}

fn made(name: &str, program: &str, tests: bool) -> PathBuf {
    fs::create_dir_all(root().join("target/tmp/blocks")).unwrap();
    // Tests that want the same variant, in this process or another, wait for each other.
    let lock = root().join("target/tmp/blocks").join(format!("{name}.lock"));
    let lock = fs::File::create(lock).unwrap();
    lock.lock().unwrap();
    let _slot = Slot::wait();
    compile(name, program, true, tests).unwrap_or_else(|(why, output)| {
        panic!("the variant {name} {why}\n\n{output}")
    })
}

type Failure = (String, String);

/// Compiles the program if it is not there yet: to a binary, or to metadata if it is not to run. A
/// program without a `main` has tests.
fn compile(
    test: &str,
    program: &str,
    run: bool,
    tests: bool,
) -> Result<PathBuf, Failure> {
    let tests = tests || !has_main(program);
    let folder = root().join("target/tmp/blocks").join(test);
    let libraries: Vec<_> = cargo::libraries()
        .iter()
        .filter(|(name, _)| program.contains(*name))
        .collect();
    let mut hasher = DefaultHasher::new();
    (program, run).hash(&mut hasher);
    if tests {
        "tests".hash(&mut hasher);
    }
    for (_, file) in &libraries {
        (file, fs::metadata(file).and_then(|data| data.modified()).ok())
            .hash(&mut hasher);
    }
    let output = folder.join(format!("{:016x}", hasher.finish()));
    if output.exists() {
        return Ok(output);
    }
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).unwrap();

    let unfinished = output.with_extension(format!("{}", std::process::id()));
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args([
        "--edition=2024",
        "--crate-name=block",
        "--crate-type=bin",
        "-Cdebuginfo=0",
    ]);
    rustc.arg(if run { "--emit=link" } else { "--emit=metadata" });
    if tests {
        rustc.arg("--test");
        // As cargo does for tests that start a program.
        for (name, program) in cargo::programs() {
            rustc.env(format!("CARGO_BIN_EXE_{name}"), program);
        }
    }
    for (name, file) in libraries {
        rustc
            .arg("-L")
            .arg(format!("dependency={}", file.parent().unwrap().display()));
        rustc.arg("--extern").arg(format!("{name}={}", file.display()));
    }
    let mut rustc = rustc
        .arg("-o")
        .arg(&unfinished)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rustc can be started");
    rustc.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    let result = rustc.wait_with_output().unwrap();
    if !result.status.success() {
        let errors = String::from_utf8_lossy(&result.stderr).into_owned();
        return Err(("does not compile".to_owned(), errors));
    }
    fs::rename(&unfinished, &output).unwrap();
    Ok(output)
}

fn execute(binary: &Path) -> Result<(), Failure> {
    let mut child = Command::new(binary)
        .env("RUST_BACKTRACE", "0")
        .current_dir(env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| ("cannot be started".to_owned(), error.to_string()))?;
    let stderr = child.stderr.take().unwrap();
    let stderr = thread::spawn(|| io::read_to_string(stderr).unwrap_or_default());
    let status = child.wait_timeout(TIME_LIMIT).unwrap();
    if status.is_none() {
        // The group: what the block has started, too.
        let group = format!("-{}", child.id());
        Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
        child.wait().unwrap();
    }
    let stderr = stderr.join().unwrap();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(("fails".to_owned(), stderr)),
        None => Err((
            format!(
                "does not end within {TIME_LIMIT:?}. A server's block is `rust,no_run`, and a test in snippets/tests runs the program"
            ),
            stderr,
        )),
    }
}

/// What is wrong with a block, with the place in the page or program where it was written.
fn explain(test: &str, why: &str, output: &str) -> String {
    let block = the_book().blocks().find(|block| block.test_name() == test);
    let block = block.expect("build.rs has named the test after it");
    let output = output.replace("<anon>", &block.origin);
    let hint = if output.contains("unresolved import")
        || output.contains("use of unresolved")
    {
        "A crate that a page uses is also a dev-dependency in the root Cargo.toml.\n"
    } else {
        ""
    };
    format!("{}:{}: this block {why}\n\n{output}{hint}", block.page, block.line)
}

/// More rustc processes than processors would only wait for each other.
struct Slot;

static FREE: LazyLock<(Mutex<usize>, Condvar)> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (Mutex::new(processors), Condvar::new())
});

impl Slot {
    fn wait() -> Slot {
        let (free, freed) = &*FREE;
        let mut free =
            freed.wait_while(free.lock().unwrap(), |free| *free == 0).unwrap();
        *free -= 1;
        Slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap() += 1;
        FREE.1.notify_one();
    }
}
