//! Each program here must fail to compile, with the words of the `.stderr` file beside it, which a
//! page shows. `TRYBUILD=overwrite cargo test mistakes` writes what the compiler says today.

use std::fs;

#[test]
fn mistakes() {
    let cases = trybuild::TestCases::new();
    // Every folder but that of this file.
    for entry in fs::read_dir(".").unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() && entry.file_name() != "tests" {
            cases.compile_fail(entry.path().join("*.rs"));
        }
    }
}
