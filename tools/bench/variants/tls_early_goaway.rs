// A step is left out, so what it uses may be unused.
#![allow(unused)]

include!(concat!(env!("OUT_DIR"), "/tls_early_goaway.rs"));
