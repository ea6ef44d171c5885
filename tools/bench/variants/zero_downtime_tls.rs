include!(concat!(env!("OUT_DIR"), "/zero_downtime_tls.rs"));
