//! The tests of the book, all in one program: while some wait for a server, others compute.
//!
//! `doctests` compiles and runs the Rust blocks of the pages. `transcripts` executes the console
//! blocks, a test a page. The modules named after topics are the files in snippets/tests, each
//! with the promises of one page. build.rs lists all of these. `versions` and `site` are about
//! the book as a whole.

mod site;
mod versions;

mod doctests {
    include!(concat!(env!("OUT_DIR"), "/doctests.rs"));
}

include!(concat!(env!("OUT_DIR"), "/pages.rs"));
