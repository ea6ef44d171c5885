// ANCHOR: program
//! The bodies that a program sends, on hyper 0.14.

extern crate hyper_014 as hyper;

use std::io;

use futures_util::stream;
use hyper::Body;

// ANCHOR: fixed
fn nothing() -> Body {
    Body::empty()
}

fn text() -> Body {
    Body::from("hello")
}
// ANCHOR_END: fixed

// ANCHOR: stream
fn from_stream() -> Body {
    let chunks = [Ok::<_, io::Error>("hel"), Ok("lo")];
    Body::wrap_stream(stream::iter(chunks))
}
// ANCHOR_END: stream

// ANCHOR: channel
fn from_channel() -> Body {
    let (mut sender, body) = Body::channel();
    tokio::spawn(async move {
        for chunk in ["hel", "lo"] {
            if sender.send_data(chunk.into()).await.is_err()
            {
                return; // Nobody reads any more.
            }
        }
    });
    body
}
// ANCHOR_END: channel

#[tokio::main]
async fn main() -> hyper::Result<()> {
    use hyper::body::to_bytes;
    assert_eq!(to_bytes(nothing()).await?, "");
    assert_eq!(to_bytes(text()).await?, "hello");
    assert_eq!(to_bytes(from_stream()).await?, "hello");
    assert_eq!(to_bytes(from_channel()).await?, "hello");
    Ok(())
}
// ANCHOR_END: program
