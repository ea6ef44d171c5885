// ANCHOR: program
//! Reading a body on hyper 0.14.

extern crate hyper_014 as hyper;

use std::io::Read;

use futures_util::TryStreamExt;
use hyper::body::{Buf, Bytes, HttpBody};
use hyper::header::HeaderValue;
use hyper::{Body, HeaderMap};

// ANCHOR: to_bytes
async fn whole(body: Body) -> hyper::Result<Bytes> {
    hyper::body::to_bytes(body).await
}
// ANCHOR_END: to_bytes

// ANCHOR: collect
async fn collected(body: Body) -> hyper::Result<Bytes> {
    Ok(body.collect().await?.to_bytes())
}
// ANCHOR_END: collect

// ANCHOR: aggregate
async fn text(body: Body) -> hyper::Result<String> {
    let buffer = hyper::body::aggregate(body).await?;
    let mut text = String::new();
    let read = buffer.reader().read_to_string(&mut text);
    read.expect("UTF-8");
    Ok(text)
}
// ANCHOR_END: aggregate

// ANCHOR: stream
async fn length(mut body: Body) -> hyper::Result<usize> {
    let mut length = 0;
    while let Some(chunk) = body.try_next().await? {
        length += chunk.len();
    }
    Ok(length)
}
// ANCHOR_END: stream

// ANCHOR: frames
async fn checksum(
    mut body: Body,
) -> hyper::Result<Option<HeaderValue>> {
    while let Some(data) = body.data().await {
        println!("{} bytes", data?.len());
    }
    let trailers = body.trailers().await?;
    Ok(trailers.and_then(|t| t.get("checksum").cloned()))
}
// ANCHOR_END: frames

#[tokio::main]
async fn main() -> hyper::Result<()> {
    assert_eq!(whole(Body::from("hello")).await?, "hello");
    let body = Body::from("hello");
    assert_eq!(collected(body).await?, "hello");
    assert_eq!(text(Body::from("hello")).await?, "hello");
    assert_eq!(length(Body::from("hello")).await?, 5);

    let (mut sender, body) = Body::channel();
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
