//! Each program here must fail to compile, with the words of the `.stderr` file beside it, which a
//! page shows. `TRYBUILD=overwrite cargo test mistakes` writes what the compiler says today.

#[test]
fn mistakes() {
    let cases = trybuild::TestCases::new();
    for folder in ["server", "upgrading"] {
        cases.compile_fail(format!("{folder}/*.rs"));
    }
}
