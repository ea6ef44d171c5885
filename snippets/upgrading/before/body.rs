// ANCHOR: program
//! A body type of one's own on hyper 0.14.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::HeaderMap;
use hyper::body::{Bytes, HttpBody, to_bytes};

// ANCHOR: body
/// Counts down to zero.
struct Countdown(u8);

impl HttpBody for Countdown {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_data(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        let line = format!("{}\n", self.0);
        Poll::Ready(Some(Ok(line.into())))
    }

    fn poll_trailers(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Infallible>> {
        Poll::Ready(Ok(None))
    }
}
// ANCHOR_END: body

#[tokio::main]
async fn main() {
    let lines = to_bytes(Countdown(3)).await.unwrap();
    assert_eq!(lines, "2\n1\n0\n");
}
// ANCHOR_END: program
