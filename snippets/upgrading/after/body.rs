// ANCHOR: program
//! A body type of one's own on hyper 1.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame};

// ANCHOR: body
/// Counts down to zero.
struct Countdown(u8);

impl Body for Countdown {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>>
    {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        let line = format!("{}\n", self.0);
        Poll::Ready(Some(Ok(Frame::data(line.into()))))
    }
}
// ANCHOR_END: body

#[tokio::main]
async fn main() {
    let lines = Countdown(3).collect().await.unwrap();
    assert_eq!(lines.to_bytes(), "2\n1\n0\n");
}
// ANCHOR_END: program
