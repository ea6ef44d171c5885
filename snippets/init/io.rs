// ANCHOR: program
//! hyper's client and server at the two ends of a pipe, both without a socket.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use tokio::time::{Instant, Sleep, sleep};

// ANCHOR: pipe
/// How many bytes may wait in one direction.
pub const ROOM: usize = 1024;

#[derive(Default)]
struct Direction {
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end of a pipe.
pub struct Pipe {
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
}
// ANCHOR_END: pipe

pub fn pipe() -> (Pipe, Pipe) {
    let (a, b) = (Arc::default(), Arc::default());
    let other = Pipe { incoming: Arc::clone(&b), outgoing: Arc::clone(&a) };
    (Pipe { incoming: a, outgoing: b }, other)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// ANCHOR: read
impl Read for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut incoming = lock(&self.incoming);
        if incoming.bytes.is_empty() && !incoming.closed {
            incoming.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (bytes, _) = incoming.bytes.as_slices();
        let count = bytes.len().min(cursor.remaining());
        cursor.put_slice(&bytes[..count]);
        incoming.bytes.drain(..count);
        wake(&mut incoming.writer);
        Poll::Ready(Ok(()))
    }
}
// ANCHOR_END: read

// ANCHOR: write
impl Write for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(ROOM - outgoing.bytes.len());
        if count == 0 && !bytes.is_empty() {
            outgoing.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        outgoing.bytes.extend(&bytes[..count]);
        wake(&mut outgoing.reader);
        Poll::Ready(Ok(count))
    }
    // ANCHOR_END: write

    // ANCHOR: shutdown
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        close(&self.outgoing);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        close(&self.outgoing);
        close(&self.incoming);
    }
}
// ANCHOR_END: shutdown

fn wake(task: &mut Option<Waker>) {
    if let Some(waker) = task.take() {
        waker.wake();
    }
}

fn close(direction: &Mutex<Direction>) {
    let mut direction = lock(direction);
    direction.closed = true;
    wake(&mut direction.reader);
    wake(&mut direction.writer);
}

// ANCHOR: recorder
/// What went over a connection.
#[derive(Default)]
pub struct Record {
    pub read: Vec<u8>,
    pub written: Vec<u8>,
}

/// Records a connection, and fails it when more than `limit` bytes arrive.
pub struct Recorder<T> {
    io: T,
    record: Arc<Mutex<Record>>,
    limit: usize,
}
// ANCHOR_END: recorder

impl<T> Recorder<T> {
    pub fn new(io: T, limit: usize) -> (Self, Arc<Mutex<Record>>) {
        let record = Arc::default();
        (Recorder { io, record: Arc::clone(&record), limit }, record)
    }
}

// ANCHOR: record_read
impl<T: Read + Unpin> Read for Recorder<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let room = cursor.remaining().min(bytes.len());
        let mut buffer = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer.unfilled()))?;
        let mut record = lock(&self.record);
        record.read.extend(buffer.filled());
        if record.read.len() > self.limit {
            return Poll::Ready(Err(io::Error::other("too many bytes")));
        }
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}
// ANCHOR_END: record_read

// ANCHOR: record_write
impl<T: Write + Unpin> Write for Recorder<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        lock(&self.record).written.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
    // ANCHOR_END: record_write

    // ANCHOR: record_vectored
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces))?;
        let bytes = pieces.iter().flat_map(|piece| piece.iter());
        lock(&self.record).written.extend(bytes.take(count));
        Poll::Ready(Ok(count))
    }
    // ANCHOR_END: record_vectored

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

// ANCHOR: slow
/// Writes a few bytes at a time, with a pause after each: a client that is slow.
pub struct Slow<T> {
    io: T,
    piece: usize,
    pause: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl<T: Write + Unpin> Write for Slow<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.sleep.as_mut().poll(cx));
        let piece = &bytes[..bytes.len().min(self.piece)];
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, piece))?;
        let next = Instant::now() + self.pause;
        self.sleep.as_mut().reset(next);
        Poll::Ready(Ok(count))
    }
    // ANCHOR_END: slow

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Read + Unpin> Read for Slow<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, cursor)
    }
}

impl<T> Slow<T> {
    pub fn new(io: T, piece: usize, pause: Duration) -> Self {
        Slow { io, piece, pause, sleep: Box::pin(sleep(Duration::ZERO)) }
    }
}

pub async fn hello(
    _: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new("Hello, World!\n".into()))
}

// ANCHOR: main
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (client, server) = pipe();
    let (server, record) = Recorder::new(server, 64 * 1024);
    let conn = server::conn::http1::Builder::new()
        .serve_connection(server, service_fn(hello));
    let serving = tokio::spawn(conn);

    // The request arrives in pieces.
    let client = Slow::new(client, 8, Duration::from_millis(10));
    let (mut sender, conn) = client::conn::http1::handshake(client).await?;
    tokio::spawn(conn);
    let request =
        Request::get("/").header("host", "pipe").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    response.into_body().collect().await?;
    // Without a sender the client closes the connection.
    drop(sender);
    serving.await??;

    let Record { read, written } = &*lock(&record);
    print!("{}{}", String::from_utf8_lossy(read), String::from_utf8_lossy(written));
    println!("{} bytes read, {} written", read.len(), written.len());
    Ok(())
}
// ANCHOR_END: main
// ANCHOR_END: program
