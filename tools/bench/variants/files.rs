include!(concat!(env!("OUT_DIR"), "/files.rs"));
