//! The releases of a crate, from cargo's index.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use cargo_metadata::semver::Version;
use crates_index::SparseIndex;

/// A release.
pub struct Release {
    pub version: Version,
    pub yanked: bool,
    /// What each feature turned on.
    pub features: BTreeMap<String, Vec<String>>,
}

/// All releases of a crate that cargo's index had when the crate was last looked up, the oldest first.
///
/// # Panics
///
/// If cargo's folder has no such entry, because the crates came from elsewhere (`cargo vendor`).
pub fn releases(name: &str) -> Vec<Release> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")));
    let indexes = home.expect("a home folder").join("registry/index");
    // A mirror has a folder of its own. What was asked last knows most.
    let known = fs::read_dir(&indexes).into_iter().flatten().flatten();
    let known = known.filter_map(|index| {
        SparseIndex::at_path(index.path(), String::new()).crate_from_cache(name).ok()
    });
    let Some(known) = known.max_by_key(|known| known.versions().len()) else {
        panic!(
            "{}: no index there knows {name}, so its releases are not known: run `cargo update --dry-run --package {name}`, which asks the registry for them",
            indexes.display()
        );
    };
    let mut releases: Vec<_> = known
        .versions()
        .iter()
        .map(|release| Release {
            version: Version::parse(release.version()).expect("a version"),
            yanked: release.is_yanked(),
            features: release.features().clone().into_iter().collect(),
        })
        .collect();
    releases.sort_by(|a, b| a.version.cmp(&b.version));
    releases
}
