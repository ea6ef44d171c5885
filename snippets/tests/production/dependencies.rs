//! What src/production/dependencies.md promises.

use std::fs;

use harness::{page, root, rows};

const PAGE: &str = "src/production/dependencies.md";

#[test]
fn the_locked_crates_have_no_advisory_but_one() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let mut affected = Vec::new();
    for row in rows(PAGE, "The advisories so far") {
        let (name, line) = (&row.cells[0], row.line);
        let fixed: Vec<_> = row.codes(1).into_iter().map(version).collect();
        let newest = *fixed.iter().max().unwrap();
        let of_crate = packages.iter().filter(|it| it["name"].as_str() == Some(name));
        let mut seen = 0;
        for package in of_crate {
            seen += 1;
            let text = package["version"].as_str().unwrap();
            let locked = version(text);
            let same_line = |fix: &&[u64; 3]| fix[..2] == locked[..2] && locked >= **fix;
            if locked < newest && !fixed.iter().any(|fix| same_line(&fix)) {
                affected.push(format!("{PAGE}:{line}: {name} {text}: {}", row.cells[1]));
            }
        }
        assert!(seen > 0, "{PAGE}:{line}: the book does not use {name}");
    }
    // The pages about 0.14 have it.
    page("production/dependencies").says("the advisory names no release of h2 0.3 that has the fix");
    assert_eq!(
        affected.len(),
        1,
        "run `cargo update` for what is older than its fix, besides h2 0.3: {affected:#?}"
    );
    assert!(affected[0].contains("h2 0.3.") && affected[0].contains("none for h2 0.3"));
}

fn version(text: &str) -> [u64; 3] {
    let parts: Vec<u64> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.try_into().unwrap()
}
