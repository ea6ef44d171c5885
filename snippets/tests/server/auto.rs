//! What src/server/auto.md promises.

use std::time::Duration;
use std::io::Write;
use tokio::net::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use super::limits::{PREFACE, frame, SETTINGS};

#[allow(dead_code)]
#[path = "../../server/auto.rs"]
mod program;

#[tokio::test]
async fn probe() {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let h2: Vec<u8> = [PREFACE.as_bytes(), &settings].concat();
    let bad: Vec<u8> = [PREFACE.as_bytes(), &frame(9, 0, 1, b"xx")].concat();
    for (name, bytes, alpn) in [
        ("nothing", &b""[..], None),
        ("P", b"P", None),
        ("half preface", b"PRI * HTTP/2.0\r\n", None),
        ("other preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", None),
        ("half head", b"GET / HT", None),
        ("half head2", b"GET / HTTP/1.1\r\nhost:", None),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaa", None),
        ("whole", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", None),
        ("preface", PREFACE.as_bytes(), None),
        ("h2", &h2, None),
        ("h2bad", &bad, None),
        ("h2 on http1", &h2, Some(&b"http/1.1"[..])),
        ("http1 on h2", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", Some(b"h2")),
    ] {
        for end in ["eof", "rst", "half-eof", "stay"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            let mut task = Box::pin(program::serve(server, alpn));
            client.write_all(bytes).await.unwrap();
            tokio::time::timeout(Duration::from_millis(20), &mut task).await.ok();
            let mut got = vec![0; 1000];
            let n = tokio::time::timeout(Duration::from_millis(20), client.read(&mut got)).await;
            match end {
                "eof" => drop(client),
                "rst" => { client.set_zero_linger().unwrap(); drop(client) }
                "half-eof" => { client.shutdown().await.unwrap(); Box::leak(Box::new(client)); }
                _ => { Box::leak(Box::new(client)); }
            }
            let result = tokio::time::timeout(Duration::from_millis(7000), async { std::panic::AssertUnwindSafe(&mut task).await }).await;
            let got = match n { Ok(Ok(n)) => format!("{:?}", String::from_utf8_lossy(&got[..n.min(60)])), other => format!("{other:?}") };
            match result {
                Ok(Err(error)) => println!("{name}/{end}: {} routine={} io={} hyper={} | {got}", program::report(&*error), program::is_routine(&error), error.is::<std::io::Error>(), error.is::<hyper::Error>()),
                other => println!("{name}/{end}: {other:?} | {got}"),
            }
        }
    }
    std::io::stdout().flush().unwrap();
}
