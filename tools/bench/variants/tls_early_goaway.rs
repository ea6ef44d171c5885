// A step is left out, so what it uses may be unused, and an `if` may hold nothing but another.
#![allow(unused, clippy::collapsible_if)]

include!(concat!(env!("OUT_DIR"), "/tls_early_goaway.rs"));
