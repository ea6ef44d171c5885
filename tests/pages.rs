//! What the pages show and promise, tested on their programs.
//!
//! `transcripts` executes the console blocks, a test a page. The other modules are the files in
//! snippets/tests, named like the pages whose promises they hold; build.rs lists them.

include!(concat!(env!("OUT_DIR"), "/pages.rs"));
