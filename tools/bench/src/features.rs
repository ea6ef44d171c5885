//! What the features of hyper, hyper-util and http-body-util cost: the crates that Cargo compiles for a project with
//! this one dependency, and the processor time of its first build.
//!
//! Processor time, because it is the same on any number of cores, and what else the machine does changes it little.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files::median;

const CRATES: [(&str, &str); 3] =
    [("hyper", "1"), ("hyper-util", "0.1"), ("http-body-util", "0.1")];

/// Prints the table, and writes it if it is to be written.
pub fn measure(rounds: usize, write: bool) {
    let folder =
        std::env::temp_dir().join(format!("features-{}", std::process::id()));
    let mut rows = Vec::new();
    for (name, version) in CRATES {
        rows.push((name, version, None));
        for feature in features(name, version) {
            rows.push((name, version, Some(feature)));
        }
    }
    let mut samples = vec![Vec::new(); rows.len()];
    let mut crates = vec![0; rows.len()];
    for round in 0..rounds {
        for (index, (name, version, feature)) in rows.iter().enumerate() {
            project(&folder, name, version, feature.as_deref());
            crates[index] = count(&folder);
            samples[index].push(build(&folder));
        }
        eprintln!("round {}", round + 1);
    }
    fs::remove_dir_all(&folder).unwrap();

    let mut table = String::from("| with | crates | seconds |\n|---|--:|--:|\n");
    for ((row, samples), crates) in rows.iter().zip(&samples).zip(&crates) {
        let (name, _, feature) = row;
        let feature =
            feature.as_ref().map_or("alone".to_owned(), |it| format!("`{it}`"));
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        table += &format!(
            "| `{name}` {feature} | {crates} | {:.1} ({:.1}–{:.1}) |\n",
            median(samples.clone()),
            sorted[0],
            sorted[sorted.len() - 1],
        );
    }
    print!("{table}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::write(results.join("features.md"), table).unwrap();
        let mut environment =
            super::environment(&["hyper", "hyper-util", "http-body-util"], &[]);
        let rustc = Command::new("rustc").arg("--version").output().unwrap();
        let rustc = String::from_utf8(rustc.stdout).unwrap();
        let rustc = rustc.split(' ').take(2).collect::<Vec<_>>().join(" ");
        environment = environment.replace(", loopback", "").replace(
            ".\n",
            &format!("; {rustc}; median of {rounds} builds (fastest–slowest).\n"),
        );
        fs::write(results.join("features-environment.md"), environment).unwrap();
    }
}

/// Those of a crate that `full` turns on, and `full`.
fn features(name: &str, version: &str) -> Vec<String> {
    let folder =
        std::env::temp_dir().join(format!("features-{}", std::process::id()));
    project(&folder, name, version, Some("full"));
    let tree = cargo(&folder)
        .args(["tree", "--offline", "--depth=1", "--prefix=none", "--format={p} {f}"])
        .output();
    let tree = String::from_utf8(tree.unwrap().stdout).unwrap();
    let line = tree.lines().find(|line| line.starts_with(&format!("{name} v")));
    let features = line.unwrap().rsplit(' ').next().unwrap();
    let on = features.split(',').filter(|feature| *feature != "default");
    on.map(str::to_owned).collect()
}

/// A project with this one dependency, in the versions of the book, which has not been built.
fn project(folder: &Path, name: &str, version: &str, feature: Option<&str>) {
    let features: Vec<_> = feature.into_iter().collect();
    let manifest = format!(
        "[package]\nname = \"project\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{name} = {{ version = {version:?}, features = {features:?} }}\n"
    );
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/main.rs"), "fn main() {}\n").unwrap();
    let lock = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    fs::copy(lock, folder.join("Cargo.lock")).unwrap();
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    cargo
}

/// How many crates Cargo compiles beside the project's own.
fn count(folder: &Path) -> usize {
    let tree =
        cargo(folder).args(["tree", "--offline", "--prefix=none"]).output().unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: std::collections::BTreeSet<_> =
        tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    names.len() - 1
}

/// The seconds of processor time of a build, as the shell counts them.
fn build(folder: &Path) -> f64 {
    let shell = Command::new("bash")
        .args(["-c", "TIMEFORMAT='%U %S'; time cargo build --quiet --offline"])
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(shell.stderr).unwrap();
    assert!(shell.status.success(), "{printed}");
    printed.split_whitespace().map(|seconds| seconds.parse::<f64>().unwrap()).sum()
}
