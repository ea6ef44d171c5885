//! What src/reference/features.md promises: its tables are the manifests of the locked crates, and the
//! compiler says what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use harness::{page, root, rows};
use regex::Regex;
use sources::Crate;
use toml::Table;

use crate::init::setup::{cargo, error, lock};

const PAGE: &str = "src/reference/features.md";

fn crates() -> [Crate; 3] {
    ["hyper", "hyper-util", "http-body-util"]
        .map(|name| sources::locked(name, version(name)))
}

/// The versions that the book is about.
fn version(of: &str) -> &'static str {
    if of == "hyper" { "1" } else { "0.1" }
}

#[test]
fn the_tables_are_the_manifests() {
    let mut defects = Vec::new();
    for it in crates() {
        let heading = format!("## {}", it.name);
        let mut missing: BTreeSet<&String> = it.features.keys().collect();
        for row in rows(PAGE, &it.name) {
            let place = format!("{PAGE}:{}", row.line);
            let feature = row.codes(0)[0].to_owned();
            let Some(on) = it.features.get(&feature) else {
                defects.push(format!(
                    "{place}: {} {} has no feature `{feature}`: remove the row",
                    it.name, it.version
                ));
                continue;
            };
            if !missing.remove(&feature) {
                defects.push(format!(
                    "{place}: `{feature}` has a row already: keep one"
                ));
            }
            let on: Vec<_> =
                on.iter().map(|it| it.strip_prefix("dep:").unwrap_or(it)).collect();
            let said = row.codes(2);
            if said != on {
                defects.push(format!("{place}: `{feature}` of {} {} turns on {on:?}, and the third cell says {said:?}: correct the cell", it.name, it.version));
            }
        }
        defects.extend(missing.into_iter().map(|feature| {
            format!("{PAGE}: {} {} has a feature `{feature}`, which turns on {:?}: add a row for it below `{heading}`", it.name, it.version, it.features[feature])
        }));
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

/// What the feature turns on in its crate, itself included. `tokio/rt` turns on `tokio`.
fn closure(
    features: &BTreeMap<String, Vec<String>>,
    feature: &str,
) -> BTreeSet<String> {
    let mut on = BTreeSet::from([feature.to_owned()]);
    for name in features.get(feature).into_iter().flatten() {
        let name = name.split('/').next().unwrap();
        if features.contains_key(name) && !on.contains(name) {
            on.extend(closure(features, name));
        }
    }
    on
}

/// The manifest of a project with this one dependency.
fn manifest(of: &str, features: &[&str]) -> Table {
    let text = format!(
        "[package]\nname = \"program\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\n{of} = {{ version = {:?}, features = {features:?} }}\n\
         [[bin]]\nname = \"program\"\npath = \"main.rs\"\n",
        version(of)
    );
    text.parse().unwrap()
}

/// What the compiler prints about a program that names these paths, with these features of one crate.
fn check(folder: &str, of: &str, features: &[&str], paths: &[&str]) -> String {
    let uses = paths.iter().enumerate();
    let uses =
        uses.map(|(index, path)| format!("pub mod m{index} {{ pub use {path}; }}\n"));
    let program = uses.collect::<String>() + "fn main() {}\n";
    let output = cargo(folder, &manifest(of, features), Some(&program), "check");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), !printed.contains("error"), "{printed}");
    printed
}

/// Where the second cell of a row begins with a path, it is there with all features, and without this one (and
/// those that turn it on) the compiler says what the last cell says.
#[test]
fn without_a_feature_the_compiler_says_what_the_page_says() {
    let _lock = lock();
    let mut seen = 0;
    for it in crates() {
        let all = closure(&it.features, "full");
        let mut paths = Vec::new();
        let rows = rows(PAGE, &it.name);
        for row in &rows {
            let feature = row.codes(0)[0];
            let words = row.codes(1);
            let Some(path) = words.first().filter(|word| word.contains("::")) else {
                continue;
            };
            paths.push(*path);
            let without: Vec<_> = all
                .iter()
                .filter(|other| {
                    *other != "full"
                        && !closure(&it.features, other).contains(feature)
                })
                .map(String::as_str)
                .collect();
            if it.name == "hyper-util" && feature == "server-auto" {
                let three = ["server", "http1", "http2"];
                assert_eq!(check("features", &it.name, &three, &[path]), "");
                continue;
            }
            let printed = check("features", &it.name, &without, &[path]);
            let error = error(&printed);
            let place = format!("{PAGE}:{}", row.line);
            let said = row.cells[3].trim_matches('`').trim();
            assert_eq!(
                error,
                Some(said),
                "{place}: {} without `{feature}`, with {without:?}",
                it.name
            );
            seen += 1;
        }
        assert_eq!(check("features", &it.name, &["full"], &paths), "");
    }
    assert!(seen > 12, "{seen} rows with a path");
}

/// The programs of the first table compile with the features that it names.
#[test]
fn the_programs_compile_with_the_features_of_the_first_table() {
    let _lock = lock();
    let link = Regex::new(r"\((.*)\.md\)").unwrap();
    for row in rows(PAGE, "Which do I need?") {
        let page = link.captures(&row.cells[0]).unwrap()[1].replace("../", "");
        let program = root().join("snippets").join(page.replace('-', "_") + ".rs");
        let program = fs::read_to_string(program).unwrap();
        let (hyper, util) = (row.codes(1), row.codes(2));
        let manifest = format!(
            "[package]\nname = \"program\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
             hyper = {{ version = \"1\", features = {hyper:?} }}\n\
             hyper-util = {{ version = \"0.1\", features = {util:?} }}\n\
             http-body-util = {{ version = \"0.1\", features = [\"full\"] }}\n\
             tokio = {{ version = \"1\", features = [\"full\"] }}\n\
             [[bin]]\nname = \"program\"\npath = \"main.rs\"\n"
        );
        let manifest: Table = manifest.parse().unwrap();
        let output = cargo("programs", &manifest, Some(&program), "check");
        assert!(
            output.status.success(),
            "{PAGE}:{}: {}",
            row.line,
            String::from_utf8_lossy(&output.stderr)
        );
        // And none of them can be left out.
        for (of, features) in [("hyper", &hyper), ("hyper-util", &util)] {
            for index in 0..features.len() {
                let mut fewer = manifest.clone();
                let list =
                    fewer["dependencies"][of]["features"].as_array_mut().unwrap();
                let left_out = list.remove(index);
                let output = cargo("programs", &fewer, Some(&program), "check");
                assert!(
                    !output.status.success(),
                    "{PAGE}:{}: it compiles without {left_out} of {of}: leave it out",
                    row.line
                );
            }
        }
    }
}

/// The error that comes if `http1` is on in hyper, and not in hyper-util.
#[test]
fn a_graceful_shutdown_needs_the_http1_of_hyper_util() {
    let _lock = lock();
    let program = root().join("snippets/server/graceful_shutdown.rs");
    let program = fs::read_to_string(program).unwrap();
    let manifest = toml::toml! {
        [package]
        name = "program"
        edition = "2024"
        [workspace]
        [dependencies]
        hyper = { version = "1", features = ["http1"] }
        hyper-util = { version = "0.1", features = ["server-graceful"] }
        http-body-util = "0.1"
        tokio = { version = "1", features = ["full"] }
        [[bin]]
        name = "program"
        path = "main.rs"
    };
    let output = cargo("graceful", &manifest, Some(&program), "check");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    page("reference/features").says(error(&printed).expect("an error"));
}

/// hyper's own words, shown on the page.
#[test]
fn the_unstable_features_do_not_compile_by_themselves() {
    let _lock = lock();
    let mut words = String::new();
    for feature in ["tracing", "ffi"] {
        let printed = check("features", "hyper", &["full", feature], &[]);
        let error = error(&printed).expect("an error");
        words +=
            &format!("{}\n", error.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let shown = root().join("snippets/reference/unstable.txt");
    let expected = snapbox::data::Data::read_from(&shown, None).raw();
    snapbox::Assert::new()
        .palette(snapbox::report::Palette::plain())
        .action_env("SNAPSHOTS")
        .eq(words, expected);
}

/// The table of the costs has the number of crates that cargo counts today, and each feature of the tables above
/// that anybody would name.
#[test]
fn the_crates_are_counted() {
    let _lock = lock();
    let table = root().join("tools/bench/results/features.md");
    let table = fs::read_to_string(table).unwrap();
    let again = "measure again: cargo run --release --manifest-path tools/bench/Cargo.toml -- features --write";
    let mut expected = Vec::new();
    for it in crates() {
        expected.push((it.name.clone(), None));
        let full = closure(&it.features, "full");
        expected
            .extend(full.into_iter().map(|feature| (it.name.clone(), Some(feature))));
    }
    let mut measured = Vec::new();
    for line in table.lines().skip(2) {
        let cells: Vec<_> =
            line.trim_matches('|').split('|').map(str::trim).collect();
        let words: Vec<_> = cells[0].split('`').skip(1).step_by(2).collect();
        let (name, feature) = (words[0], words.get(1).copied());
        let count = crates_with(name, feature);
        assert_eq!(cells[1], count.to_string(), "{line}: {again}");
        measured.push((name.to_owned(), feature.map(str::to_owned)));
    }
    measured.sort();
    expected.sort();
    assert_eq!(measured, expected, "the features in the table of costs: {again}");
}

/// How many crates Cargo compiles for a project with this one dependency.
fn crates_with(name: &str, feature: Option<&str>) -> usize {
    let features: Vec<_> = feature.into_iter().collect();
    let manifest = manifest(name, &features);
    let output = cargo("costs", &manifest, Some("fn main() {}\n"), "tree");
    let printed = String::from_utf8_lossy(&output.stdout);
    let names = printed.lines().map(|line| {
        line.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_')
    });
    let names: BTreeSet<_> =
        names.map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(output.status.success() && names.len() > 1, "{output:?}");
    names.len() - 1
}
