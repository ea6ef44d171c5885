include!(concat!(env!("OUT_DIR"), "/websocket_128_kib.rs"));
