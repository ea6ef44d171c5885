//! What src/reference/versions.md promises: it has each release up to the locked one, with names that exist, and it
//! agrees with each "since" of the other pages (snippets/since.toml).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use harness::{root, rows, the_book};
use sources::releases;
use toml::Table;

const PAGE: &str = "src/reference/versions.md";
const CRATES: [(&str, &str); 3] =
    [("hyper", "1"), ("hyper-util", "0.1"), ("http-body-util", "0.1")];

/// What the page says of each release of a crate, in its order: the line, the release, the text.
fn releases_of(of: &str) -> Vec<(usize, String, String)> {
    let rows = rows(PAGE, of).into_iter();
    rows.map(|mut row| {
        let what = row.cells.pop().unwrap();
        (row.line, row.cells[0].replace(&format!("{of} "), ""), what)
    })
    .collect()
}

#[test]
fn each_release_up_to_the_locked_one_has_its_row() {
    let mut defects = Vec::new();
    for (name, version) in CRATES {
        let locked = sources::locked(name, version).version;
        let major = |release: &sources::Release| {
            release.version.major == locked.major && release.version.pre.is_empty()
        };
        let expected: Vec<String> = releases(name)
            .iter()
            .rev()
            .filter(|it| major(it) && !it.yanked && it.version <= locked)
            .map(|it| it.version.to_string())
            .filter(|it| it != "0.0.0")
            .collect();
        assert!(expected.len() > 5, "{name}: {expected:?}");
        let rows = releases_of(name);
        for release in &expected {
            if !rows.iter().any(|(_, written, _)| written == release) {
                defects.push(format!("{PAGE}: {name} {release} is missing: read its changelog, and add a row below `## {name}` with what a reader can use"));
            }
        }
        for (line, release, what) in &rows {
            if !expected.contains(release) {
                defects.push(format!("{PAGE}:{line}: there is no {name} {release} up to {locked}, which is locked: remove the row"));
            }
            if what.is_empty() {
                defects.push(format!("{PAGE}:{line}: {name} {release}: say what it brought, or put a dash"));
            }
        }
        let written: Vec<_> =
            rows.into_iter().map(|(_, release, _)| release).collect();
        if defects.is_empty() && written != expected {
            defects.push(format!("{PAGE}: {name}: the newest release is first, and each has one row: {expected:?}"));
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

/// A name in a code span is one of the crate's, or of what it re-exports.
#[test]
fn the_names_exist() {
    let mut defects = Vec::new();
    for (name, version) in CRATES {
        let mut names = sources::locked(name, version).names();
        for (other, version) in [("http", "1"), ("http-body", "1")] {
            names.extend(sources::locked(other, version).names());
        }
        let mut seen = 0;
        for (line, release, what) in releases_of(name) {
            for code in what.split('`').skip(1).step_by(2) {
                let is_name =
                    |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                // `connection: close` and `content-length` are HTTP's.
                if !code.chars().all(is_name) {
                    continue;
                }
                seen += 1;
                for part in code.split("::") {
                    if !names.contains(part) {
                        defects.push(format!("{PAGE}:{line}: {name} {release}: there is no `{part}` in its sources: correct the name"));
                    }
                }
            }
        }
        assert!(seen > 0, "{PAGE}: names of {name}");
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

/// Where a page says "since hyper 1.6", the row of 1.6.0 leads to that page.
#[test]
fn what_pages_say_of_since_is_here() {
    let list = fs::read_to_string(root().join("snippets/since.toml")).unwrap();
    let list: Table = list.parse().unwrap();
    let rows: BTreeMap<String, (usize, String)> = CRATES
        .into_iter()
        .flat_map(|(name, _)| {
            let rows = releases_of(name).into_iter();
            rows.map(move |(line, release, what)| {
                (format!("{name} {release}"), (line, what))
            })
        })
        .collect();
    let mut defects = BTreeSet::new();
    for (release, sentences) in &list {
        let full = if release.matches('.').count() == 1 {
            format!("{release}.0")
        } else {
            release.clone()
        };
        let Some((line, what)) = rows.get(&full) else {
            // A release of Rust or tokio is not this page's.
            continue;
        };
        for sentence in sentences.as_array().unwrap() {
            let sentence = sentence.as_str().unwrap().replace("{}", release);
            let mut said = false;
            for page in &the_book().pages {
                if page.path == PAGE
                    || book::Prose::of(page).find(&sentence).is_none()
                {
                    continue;
                }
                said = true;
                let link = link(Path::new(&page.path));
                if !what.contains(&link) {
                    defects.insert(format!("{PAGE}:{line}: {} says \"{sentence}\": the row should link to {link}", page.path));
                }
            }
            assert!(said, "no page says {sentence:?}");
        }
    }
    assert!(
        defects.is_empty(),
        "\n{}",
        defects.into_iter().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn the_rust_that_each_crate_needs_is_that_of_its_manifest() {
    let mut defects = Vec::new();
    let rows = rows(PAGE, "Which Rust");
    for row in &rows {
        let (name, written) = (&row.cells[0], &row.cells[1]);
        let newest = harness::cargo::metadata()
            .packages
            .iter()
            .filter(|package| *package.name == *name)
            .max_by_key(|package| package.version.clone())
            .unwrap_or_else(|| panic!("Cargo.lock has no {name}"));
        let needs = newest.rust_version.as_ref().expect("it names one");
        let needs = format!("Rust {}.{}", needs.major, needs.minor);
        if *written != needs {
            defects.push(format!("{PAGE}:{}: {name} {} needs {needs}: correct the row", row.line, newest.version));
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
    let names: Vec<_> = rows.iter().map(|row| &*row.cells[0]).collect();
    assert_eq!(names, ["hyper", "hyper-util", "http-body-util", "http", "tokio"]);
}

/// A program that needs a crate for which this Rust is too old.
#[test]
fn cargo_refuses_a_rust_that_is_too_old_in_these_words() {
    let folder = tempfile::TempDir::new().unwrap();
    let package = |path: &Path, name: &str, more: &str| {
        fs::create_dir_all(path.join("src")).unwrap();
        fs::write(path.join("src/lib.rs"), "").unwrap();
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{more}");
        fs::write(path.join("Cargo.toml"), manifest).unwrap();
    };
    package(folder.path(), "program", "[dependencies]\nhyper-util = { path = \"needs\" }\n[workspace]\n");
    package(&folder.path().join("needs"), "hyper-util", "rust-version = \"1.999\"\n");
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = std::process::Command::new(cargo);
    let output = command.args(["check", "--offline"]).current_dir(&folder).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let (_, section) = page.split_once("With an older compiler, Cargo says:").expect(PAGE);
    let block = section.split("```").nth(1).unwrap().trim_start_matches("text").trim();
    let shape = regex::escape(block).replace('…', r"[\d.]+");
    let shape = regex::Regex::new(&format!("(?m)^{shape}$")).unwrap();
    assert!(shape.is_match(&said), "{PAGE} shows:\n{block}\nCargo says:\n{said}");
}

/// From this page to another one.
fn link(page: &Path) -> String {
    let path = page.strip_prefix("src").unwrap().to_str().unwrap();
    match path.strip_prefix("reference/") {
        Some(neighbour) => neighbour.to_owned(),
        None => format!("../{path}"),
    }
}
