include!(concat!(env!("OUT_DIR"), "/files_4_kib.rs"));
