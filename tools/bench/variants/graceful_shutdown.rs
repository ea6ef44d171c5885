include!(concat!(env!("OUT_DIR"), "/graceful_shutdown.rs"));
