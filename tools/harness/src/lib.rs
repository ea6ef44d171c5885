//! What the tests of the book share.
//!
//! [`Program`] starts a program and [`Connection`] speaks to it, byte by byte; [`transcript`]
//! executes the console blocks of a page; [`block`] compiles and runs its Rust blocks;
//! [`page`] reads the numbers of its sentences, [`rows`] its tables. [`cargo`] knows what cargo has built.

pub mod block;
pub mod cargo;
mod number;
mod program;
mod table;
mod transcript;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use book::Book;

pub use number::{Prose, page};
pub use program::{
    Answer, Connection, LIMIT, Load, Program, Server, assert_prints, memory, sockets,
    spawn, wait,
};
pub use table::{Row, rows};
pub use transcript::transcript;

/// The root of the repository.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
    });
    &ROOT
}

/// The book, read once.
pub fn the_book() -> &'static Book {
    static BOOK: LazyLock<Book> = LazyLock::new(|| {
        Book::read(root()).unwrap_or_else(|defects| {
            let lines: Vec<_> = defects.iter().map(ToString::to_string).collect();
            panic!("\n{}", lines.join("\n"))
        })
    });
    &BOOK
}
