include!(concat!(env!("OUT_DIR"), "/websocket.rs"));
