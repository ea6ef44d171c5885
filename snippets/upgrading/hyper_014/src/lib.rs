//! hyper 0.14, as it is, under a name of its own: a program cannot depend on two packages named
//! hyper without renaming one, and the doctests of this book cannot rename. A block for hyper
//! 0.14 begins with a hidden `extern crate hyper_014 as hyper;`.

pub use hyper::*;
