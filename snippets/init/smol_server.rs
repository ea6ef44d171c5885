// ANCHOR: program
//! A server under smol.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpListener;

/// How long a client may take to send a request head.
const HEAD: Duration = Duration::from_secs(2);

// ANCHOR: read
/// IO of smol, as hyper wants it.
struct SmolIo<T>(T);

impl<T: AsyncRead + Unpin> Read for SmolIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // A copy, as the price of safe code.
        let mut bytes = [0; 8 * 1024];
        let room = cursor.remaining().min(bytes.len());
        let read = Pin::new(&mut self.0).poll_read(cx, &mut bytes[..room]);
        let count = ready!(read)?;
        cursor.put_slice(&bytes[..count]);
        Poll::Ready(Ok(()))
    }
}
// ANCHOR_END: read

// ANCHOR: write
impl<T: AsyncWrite + Unpin> Write for SmolIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    // ANCHOR_END: write

    // ANCHOR: shutdown
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
    // ANCHOR_END: shutdown
}

// ANCHOR: timer
struct SmolSleep(smol::Timer);

impl Future for SmolSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl Sleep for SmolSleep {}

#[derive(Clone)]
struct SmolTimer;

impl Timer for SmolTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(SmolSleep(smol::Timer::after(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(SmolSleep(smol::Timer::at(deadline)))
    }
}
// ANCHOR_END: timer

async fn handle(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello from smol!\n")))
}

// ANCHOR: serve
async fn serve(listener: TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                eprintln!("accept failed: {error}");
                smol::Timer::after(Duration::from_millis(100)).await;
                continue;
            }
        };
        let conn = http1::Builder::new()
            .timer(SmolTimer)
            .header_read_timeout(HEAD)
            .serve_connection(SmolIo(stream), service_fn(handle));
        smol::spawn(async {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        })
        .detach();
    }
}
// ANCHOR_END: serve

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    smol::block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        serve(listener).await;
        Ok(())
    })
}
// ANCHOR_END: program
