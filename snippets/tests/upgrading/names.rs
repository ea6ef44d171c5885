//! The index of the names of hyper 0.14: `src/upgrading/names.md` has each public name once, and no
//! others. hyper 0.14 is frozen, so its names are a list, `snippets/upgrading/names.txt`: what a
//! program can name with the features `full` and `backports`, each a name in its sources. The
//! names of the other columns are links, which are checked with all links of the site.
//!
//! The last section has names that are older, and no others than `snippets/upgrading/older.txt`: each
//! with the first hyper that is without it, which the sources of 0.10 to 0.13 have said once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use harness::{root, rows};
use regex::Regex;

const PAGE: &str = "src/upgrading/names.md";
const LIST: &str = "snippets/upgrading/names.txt";
const OLDER: &str = "snippets/upgrading/older.txt";
const OLDER_HEADING: &str = "Older than 0.14 {#older}";

#[test]
fn the_index_has_each_name_of_hyper_0_14_once() {
    let list = fs::read_to_string(root().join(LIST)).unwrap();
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let defects = defects(&list, &page);
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

#[test]
fn each_name_of_the_list_is_one_of_hyper_0_14() {
    // Those of what it re-exports, too.
    let crates = [("hyper", "0.14"), ("http", "0.2"), ("http-body", "0.4"), ("bytes", "1")];
    let names: BTreeSet<String> = crates
        .into_iter()
        .flat_map(|(name, version)| sources::locked(name, version).names())
        .collect();
    let list = fs::read_to_string(root().join(LIST)).unwrap();
    for (line, path) in (1..).zip(list.lines()) {
        let (_, name) = path.rsplit_once("::").unwrap_or(("", path));
        // `impl From<Bytes>` is a row of its own.
        let name = name.trim_start_matches("impl ").split('<').next().unwrap_or(name);
        assert!(names.contains(name), "{LIST}:{line}: hyper 0.14 has no {name}");
    }
}

#[test]
fn the_older_names_are_those_of_the_list_and_none_is_of_hyper_0_14() {
    let list = fs::read_to_string(root().join(LIST)).unwrap();
    let older = fs::read_to_string(root().join(OLDER)).unwrap();
    let code = Regex::new("`([^`]+)`").unwrap();
    let mut on_page = BTreeSet::new();
    for row in rows(PAGE, OLDER_HEADING) {
        let [before, gone, _] = &row.cells[..] else {
            panic!("{PAGE}:{}: it has not three cells", row.line)
        };
        // What stands after "as in" is an example.
        let names = before.split(", as in ").next().unwrap();
        on_page.extend(code.captures_iter(names).map(|it| format!("{gone} {}", &it[1])));
    }
    let listed: BTreeSet<String> = older.lines().map(str::to_owned).collect();
    assert!(listed.len() > 20, "{OLDER}: {listed:?}");
    let differ: Vec<_> = on_page.symmetric_difference(&listed).collect();
    assert!(differ.is_empty(), "{PAGE} and {OLDER} differ: {differ:?}: change one of them");
    for name in listed.iter().filter_map(|it| it.splitn(3, ' ').nth(2)) {
        let end = format!("::{name}");
        let new = list.lines().find(|it| *it == name || it.ends_with(&end));
        assert_eq!(new, None, "hyper 0.14 has `{name}` ({LIST}): its place is above");
    }
}

/// What is wrong with the page, as lines `page: what: how to fix it`.
fn defects(list: &str, page: &str) -> Vec<String> {
    let hyper: BTreeSet<&str> = list.lines().collect();
    let module_heading = Regex::new("^## `([^`]+)`$").unwrap();
    let type_heading = Regex::new("^### `([^`]+)` in `([^`]+)`$").unwrap();
    let row = Regex::new(r"^\| (`.+?`) \| (.*)\|$").unwrap();
    let code = Regex::new("`([^`]+)`").unwrap();

    let (mut module, mut above) = (String::new(), String::new());
    let (mut names, mut defects) = (BTreeMap::<String, usize>::new(), Vec::new());
    let of_0_14 = page.lines().take_while(|line| !line.ends_with(OLDER_HEADING));
    for (line, text) in (1..).zip(of_0_14) {
        let mut found = Vec::new();
        let mut defect =
            |what: String| defects.push(format!("{PAGE}:{line}: {what}"));
        if let Some(heading) = module_heading.captures(text) {
            module = heading[1].to_owned();
            above.clone_from(&module);
            found.push(module.clone());
        } else if let Some(heading) = type_heading.captures(text) {
            if heading[2] != module {
                defect(format!(
                    "this stands under \"## `{module}`\": move it to \"## `{}`\"",
                    &heading[2]
                ));
            }
            above = format!("{}::{}", &heading[2], &heading[1]);
            found.push(above.clone());
        } else if text.starts_with("##") {
            defect("a heading here is \"## `hyper::MODULE`\" or \"### `TYPE` in `hyper::MODULE`\": change it".to_owned());
        } else if let Some(row) = row.captures(text) {
            if row[2].split('|').any(|cell| cell.trim().is_empty()) {
                defect("an empty cell: say what replaces the name, or that it is gone and what to do".to_owned());
            }
            found.extend(
                code.captures_iter(&row[1])
                    .map(|name| format!("{above}::{}", &name[1])),
            );
        }
        for name in found {
            if !hyper.contains(&*name) {
                defect(format!(
                    "hyper 0.14 has no `{name}` ({LIST}): correct the name, or the heading above it, or remove it"
                ));
            }
            if let Some(first) = names.insert(name.clone(), line) {
                defect(format!("line {first} is about `{name}` too: keep one"));
            }
        }
    }
    let missing = hyper.into_iter().filter(|name| !names.contains_key(*name));
    defects.extend(missing.map(|path| {
        let (parent, name) = path.rsplit_once("::").unwrap_or(("", path));
        format!("{PAGE}: hyper 0.14 has `{path}` ({LIST}): add a row for `{name}` to the table of `{parent}`, or a heading for it")
    }));
    defects
}
