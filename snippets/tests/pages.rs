//! What the pages promise, tested by running their programs.
//!
//! `transcripts` executes the console blocks of every page. `init` and `server` hold the promises that
//! the prose makes, a file a page. Add a test where a page says that something happens.

mod init;
mod program;
mod server;
mod transcripts;
