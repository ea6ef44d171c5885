//! The Rust blocks of the pages, as the tests that build.rs makes of them.

include!(concat!(env!("OUT_DIR"), "/doctests.rs"));
