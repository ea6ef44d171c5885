include!(concat!(env!("OUT_DIR"), "/proxy.rs"));
