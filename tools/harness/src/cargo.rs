//! What cargo has built: the programs of the book, and the libraries for its blocks.
//!
//! A test asks cargo, so it never runs a program that is older than its source, whichever
//! package the program belongs to and however the test was started.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use cargo_metadata::{Message, Metadata, MetadataCommand};

use crate::root;

struct Built {
    programs: BTreeMap<String, PathBuf>,
    libraries: BTreeMap<String, PathBuf>,
}

static BUILT: LazyLock<Built> = LazyLock::new(build);

/// The executable of a bin of this workspace, built from its source as it is now.
pub fn program(name: &str) -> PathBuf {
    let program = BUILT.programs.get(name);
    program.unwrap_or_else(|| panic!("no package has a bin `{name}`")).clone()
}

/// The programs, by name.
pub fn programs() -> &'static BTreeMap<String, PathBuf> {
    &BUILT.programs
}

/// The libraries that a block may use, by the name that the root package gives them: its
/// dependencies, each in the build that the tests are linked with.
pub fn libraries() -> &'static BTreeMap<String, PathBuf> {
    &BUILT.libraries
}

/// What cargo knows of the packages that this machine builds. Those for other systems were perhaps never downloaded.
pub fn metadata() -> &'static Metadata {
    static METADATA: LazyLock<Metadata> = LazyLock::new(ask_for_metadata);
    &METADATA
}

fn ask_for_metadata() -> Metadata {
    let rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
        .arg("-vV")
        .output()
        .expect("rustc can be started");
    let version = String::from_utf8(rustc.stdout).expect("rustc writes UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    MetadataCommand::new()
        .current_dir(root())
        .other_options(
            ["--offline", "--filter-platform", host.expect("a host")]
                .map(str::to_owned),
        )
        .exec()
        .unwrap_or_else(|error| panic!("`cargo metadata` fails: {error}"))
}

/// The same selection as a plain `cargo test`, so that nothing is built twice with other features.
fn build() -> Built {
    // nextest starts a process for each test: the first one asks, and the others read its answer.
    let run = env::var("NEXTEST_RUN_ID").ok().map(|id| {
        let folder = root().join("target/tmp");
        fs::create_dir_all(&folder).unwrap();
        (
            fs::File::create(folder.join("nextest.lock")).unwrap(),
            folder.join(format!("nextest-{id}.json")),
        )
    });
    let mut messages = String::new();
    if let Some((lock, answer)) = &run {
        lock.lock().unwrap();
        messages = fs::read_to_string(answer).unwrap_or_default();
    }
    if messages.is_empty() {
        messages = ask();
    }
    if let Some((_, answer)) = &run {
        fs::write(answer, &messages).unwrap();
    }

    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let root_id = resolve.root.as_ref().expect("the workspace has a root package");
    let node = resolve.nodes.iter().find(|node| node.id == *root_id).unwrap();
    let names: HashMap<_, _> = node
        .deps
        .iter()
        .map(|dependency| (&dependency.pkg, &dependency.name))
        .collect();

    let mut programs = BTreeMap::new();
    let mut libraries: BTreeMap<String, (usize, PathBuf)> = BTreeMap::new();
    for message in Message::parse_stream(messages.as_bytes()) {
        let Message::CompilerArtifact(artifact) = message.expect("cargo writes JSON")
        else {
            continue;
        };
        if let Some(program) = artifact.executable
            && artifact.target.is_bin()
            && !artifact.profile.test
        {
            programs.insert(artifact.target.name, program.into_std_path_buf());
        } else if let Some(name) = names.get(&artifact.package_id)
            && let Some(file) = artifact.filenames.iter().find(|file| {
                matches!(file.extension(), Some("rlib" | "so" | "dylib" | "dll"))
            })
        {
            // Build scripts may use the same crate with fewer features. With as many, nobody knows
            // which build this is: see `tracing-core` in Cargo.toml.
            let features = artifact.features.len();
            let known = libraries.entry(name.to_string()).or_default();
            if features >= known.0 {
                *known = (features, file.clone().into_std_path_buf());
            }
        }
    }
    let libraries =
        libraries.into_iter().map(|(name, (_, file))| (name, file)).collect();
    Built { programs, libraries }
}

/// Lets cargo build what is not up to date; its messages, as JSON.
fn ask() -> String {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args([
        "build",
        "--bins",
        "--tests",
        "--message-format=json-render-diagnostics",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // What the cargo that runs this test says of its package is no news to a build: build scripts that
    // watch these (that of ring does) would run again, and all that depends on them.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name == "OUT_DIR"
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(&*name);
        }
    }
    let mut cargo = command
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo can be started");
    // What it compiles is shown while it does, errors too; that it has nothing to do is not.
    let errors = BufReader::new(cargo.stderr.take().unwrap());
    let errors = thread::spawn(move || {
        for line in errors.lines().map_while(Result::ok) {
            if !line.trim_start().starts_with("Finished") {
                eprintln!("{line}");
            }
        }
    });
    let messages = std::io::read_to_string(cargo.stdout.take().unwrap()).unwrap();
    errors.join().unwrap();
    let status = cargo.wait().unwrap();
    assert!(status.success(), "`cargo build --bins --tests` fails, see above");
    messages
}
