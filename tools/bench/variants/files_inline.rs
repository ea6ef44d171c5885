include!(concat!(env!("OUT_DIR"), "/files_inline.rs"));
