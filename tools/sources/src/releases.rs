//! The releases of a crate, from cargo's index.

use std::path::PathBuf;
use std::{env, fs};

use cargo_metadata::semver::Version;
use serde_json::Value;

/// A release.
pub struct Release {
    pub version: Version,
    pub yanked: bool,
}

/// All releases of a crate that cargo's index had when the crate was last looked up, the oldest first.
///
/// cargo keeps what it has read of the index in its home folder, a file for each crate: between NUL bytes,
/// a line of JSON for each release (cargo's `src/sources/registry/index/cache.rs`).
///
/// # Panics
///
/// If cargo's folder has no such entry, because the crates came from elsewhere (`cargo vendor`).
pub fn releases(name: &str) -> Vec<Release> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")));
    let indexes = home.expect("a home folder").join("registry/index");
    // The names of the crates of this book have at least four letters.
    let entry = format!(".cache/{}/{}/{name}", &name[..2], &name[2..4]);
    // A mirror has a folder of its own. What was asked last knows most.
    let known = fs::read_dir(&indexes).into_iter().flatten().flatten();
    let known = known.filter_map(|index| fs::read(index.path().join(&entry)).ok());
    let Some(known) = known.max_by_key(Vec::len) else {
        panic!(
            "{}: no index there knows {name}, so its releases are not known: run `cargo update --dry-run --package {name}`, which asks the registry for them",
            indexes.display()
        );
    };
    let lines = known.split(|byte| *byte == 0).filter(|part| part.starts_with(b"{"));
    let mut releases: Vec<_> = lines
        .map(|line| {
            let line: Value = serde_json::from_slice(line).expect("a line of JSON");
            let version = line["vers"].as_str().expect("a version");
            Release {
                version: Version::parse(version).expect("a version"),
                yanked: line["yanked"].as_bool().unwrap_or_default(),
            }
        })
        .collect();
    assert!(
        !releases.is_empty(),
        "cargo's index has another form: see tools/sources"
    );
    releases.sort_by(|a, b| a.version.cmp(&b.version));
    releases
}
