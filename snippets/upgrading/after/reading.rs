// ANCHOR: program
//! Reading a body on hyper 1. The functions take any body, so that they can be
//! tried without a connection; a server calls them with `Incoming`.

use std::error::Error;
use std::io::Read;

use futures_util::TryStreamExt;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full, Limited};
use hyper::HeaderMap;
use hyper::body::{Body, Buf, Bytes};
use hyper::header::HeaderValue;

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: to_bytes
async fn whole<B>(body: B) -> Result<Bytes, BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let body = Limited::new(body, 64 * 1024);
    Ok(body.collect().await?.to_bytes())
}
// ANCHOR_END: to_bytes

// ANCHOR: aggregate
async fn text<B>(body: B) -> Result<String, B::Error>
where
    B: Body<Data = Bytes>,
{
    let buffer = body.collect().await?.aggregate();
    let mut text = String::new();
    let read = buffer.reader().read_to_string(&mut text);
    read.expect("UTF-8");
    Ok(text)
}
// ANCHOR_END: aggregate

// ANCHOR: stream
async fn length<B>(body: B) -> Result<usize, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut length = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.try_next().await? {
        length += chunk.len();
    }
    Ok(length)
}
// ANCHOR_END: stream

// ANCHOR: frames
async fn checksum<B>(
    mut body: B,
) -> Result<Option<HeaderValue>, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut checksum = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => println!("{} bytes", data.len()),
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                checksum = trailers.and_then(|t| {
                    t.get("checksum").cloned()
                });
            }
        }
    }
    Ok(checksum)
}
// ANCHOR_END: frames

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let hello = || Full::<Bytes>::from("hello");
    assert_eq!(whole(hello()).await?, "hello");
    assert_eq!(text(hello()).await?, "hello");
    assert_eq!(length(hello()).await?, 5);

    let (mut sender, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move {
        sender.send_data("hello".into()).await.unwrap();
        let mut trailers = HeaderMap::new();
        let value = HeaderValue::from_static("5d41");
        trailers.insert("checksum", value);
        sender.send_trailers(trailers).await.unwrap();
    });
    assert_eq!(checksum(body).await?.unwrap(), "5d41");
    Ok(())
}
// ANCHOR_END: program
