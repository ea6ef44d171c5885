//! What src/server/certificates.md promises.

use harness::{Prose, page};

fn certificates() -> Prose {
    page("server/certificates")
}

fn check() -> u64 {
    certificates().number("the files are read every {} seconds")
}
