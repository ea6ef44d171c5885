// ANCHOR: program
//! The bodies that a program sends, on hyper 1.

use std::error::Error;
use std::io;
use std::pin::Pin;

use futures_util::{Stream, TryStreamExt, stream};
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame};

// ANCHOR: fixed
fn nothing() -> Empty<Bytes> {
    Empty::new()
}

fn text() -> Full<Bytes> {
    Full::from("hello")
}
// ANCHOR_END: fixed

// ANCHOR: stream
fn from_stream()
-> impl Body<Data = Bytes, Error = io::Error> {
    let chunks = [Ok("he"), Ok("llo")];
    let chunks = stream::iter(chunks).map_ok(Bytes::from);
    StreamBody::new(chunks.map_ok(Frame::data))
}
// ANCHOR_END: stream

// ANCHOR: boxed
type BoxError = Box<dyn Error + Send + Sync>;
type Chunks =
    Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

fn from_boxed_stream(
    chunks: Chunks,
) -> UnsyncBoxBody<Bytes, BoxError> {
    let frames =
        chunks.map_ok(Frame::data).map_err(BoxError::from);
    StreamBody::new(frames).boxed_unsync()
}
// ANCHOR_END: boxed

// ANCHOR: channel
fn from_channel() -> Channel<Bytes> {
    let (mut sender, body) = Channel::new(1);
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

async fn whole<B>(body: B) -> Result<Bytes, BoxError>
where
    B: Body<Error: Into<BoxError>>,
{
    let whole = body.collect().await.map_err(Into::into)?;
    Ok(whole.to_bytes())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    assert_eq!(whole(nothing()).await?, "");
    assert_eq!(whole(text()).await?, "hello");
    assert_eq!(whole(from_stream()).await?, "hello");
    let chunks =
        Box::pin(stream::iter([Ok("hello".into())]));
    let body = from_boxed_stream(chunks);
    assert_eq!(whole(body).await?, "hello");
    assert_eq!(whole(from_channel()).await?, "hello");
    Ok(())
}
// ANCHOR_END: program
