// ANCHOR: program
//! The bodies that a program sends, on hyper 0.14.

extern crate hyper_014 as hyper;

use std::io;
use std::pin::Pin;

use futures_util::{Stream, stream};
use hyper::Body;
use hyper::body::Bytes;

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
    let chunks = [Ok::<_, io::Error>("he"), Ok("llo")];
    Body::wrap_stream(stream::iter(chunks))
}
// ANCHOR_END: stream

// ANCHOR: boxed
type Chunks =
    Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

fn from_boxed_stream(chunks: Chunks) -> Body {
    Body::wrap_stream(chunks)
}
// ANCHOR_END: boxed

// ANCHOR: channel
fn from_channel() -> Body {
    let (mut sender, body) = Body::channel();
    tokio::spawn(async move {
        for chunk in ["he", "llo"] {
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
    let chunks =
        Box::pin(stream::iter([Ok("hello".into())]));
    let body = from_boxed_stream(chunks);
    assert_eq!(to_bytes(body).await?, "hello");
    assert_eq!(to_bytes(from_channel()).await?, "hello");
    Ok(())
}
// ANCHOR_END: program
