//! What src/init/io.md promises.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::server::limits::program as limits;
use harness::{LIMIT, Prose, page};
use program::{Pipe, Record, Recorder, pipe};

/// The program itself.
#[allow(dead_code)]
#[path = "../../init/io.rs"]
mod program;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const HOUR: Duration = Duration::from_secs(3600);

fn io_page() -> Prose {
    page("init/io")
}

/// Serves HTTP/1 over this, with a response of so many bytes.
fn serve(
    io: impl Read + Write + Unpin + Send + 'static,
    size: usize,
) -> JoinHandle<hyper::Result<()>> {
    let service = service_fn(move |_: Request<Incoming>| {
        let body = Full::<Bytes>::from(vec![b'.'; size]);
        async { Ok::<_, hyper::Error>(Response::new(body)) }
    });
    tokio::spawn(server::conn::http1::Builder::new().serve_connection(io, service))
}

/// What the server answers to these bytes, up to the end of the connection.
async fn answer(client: Pipe, bytes: &[u8]) -> String {
    let mut client = TokioIo::new(client);
    client.write_all(bytes).await.unwrap();
    let mut answer = String::new();
    timeout(HOUR, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

fn taken(record: &Mutex<Record>) -> (Vec<u8>, Vec<u8>) {
    let mut record = record.lock().unwrap();
    (std::mem::take(&mut record.read), std::mem::take(&mut record.written))
}

#[tokio::test]
async fn what_is_recorded_is_what_was_on_the_wire() {
    // More than a pipe holds and than the recorder reads at once, so that pieces wait.
    for (size, http2) in [(5, false), (100_000, false), (5, true), (100_000, true)] {
        let (client, server) = pipe();
        let (server, served) = Recorder::new(server, usize::MAX);
        let (client, asked) = Recorder::new(client, usize::MAX);
        let echo = service_fn(async |request: Request<Incoming>| {
            let bytes = request.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Response::new(Full::new(bytes)))
        });
        let body = Full::<Bytes>::from(vec![b'.'; size]);
        let request = Request::post("http://pipe/").body(body).unwrap();
        let response = if http2 {
            let http2 = server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http2.serve_connection(server, echo));
            let executor = TokioExecutor::new();
            let (mut sender, conn) =
                client::conn::http2::handshake(executor, client).await.unwrap();
            tokio::spawn(conn);
            sender.send_request(request).await.unwrap()
        } else {
            let http1 = server::conn::http1::Builder::new();
            tokio::spawn(http1.serve_connection(server, echo));
            let (mut sender, conn) =
                client::conn::http1::handshake(client).await.unwrap();
            tokio::spawn(conn);
            sender.send_request(request).await.unwrap()
        };
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), size);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let ((read, written), (read_back, sent)) = (taken(&served), taken(&asked));
        assert!(read.len() >= size && written.len() >= size);
        assert!(read == sent && written == read_back, "{http2} {size}");
    }
}

#[tokio::test]
async fn the_bytes_are_those_that_were_sent() {
    let (client, server) = pipe();
    let (server, record) = Recorder::new(server, usize::MAX);
    let conn = serve(server, 3);
    let answer = answer(client, CLOSE).await;
    conn.await.unwrap().unwrap();
    let (read, written) = taken(&record);
    assert_eq!(read, CLOSE);
    assert_eq!(written, answer.as_bytes());
    assert!(answer.ends_with("\r\n\r\n..."), "{answer}");
}

#[tokio::test]
async fn too_many_bytes_fail_the_connection() {
    let message = "error reading a body from connection: too many bytes";
    io_page().says(message);
    let (client, server) = pipe();
    let (server, _record) = Recorder::new(server, 100);
    let (sender, mut errors) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            sender.send("the head is here".to_owned()).unwrap();
            let error = request.into_body().collect().await.unwrap_err();
            sender.send(text(&error)).unwrap();
            Err::<Response<Empty<Bytes>>, _>(error)
        }
    });
    let http1 = server::conn::http1::Builder::new();
    let conn = tokio::spawn(http1.serve_connection(server, service));
    let head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n";
    let mut client = TokioIo::new(client);
    client.write_all(head).await.unwrap();
    assert_eq!(errors.recv().await.unwrap(), "the head is here");
    client.write_all(&[b'.'; 100]).await.unwrap();
    let error = timeout(LIMIT, errors.recv()).await.expect("the limit is kept");
    assert_eq!(error.unwrap(), message);
    conn.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_waits_for_ever_and_write_stall_ends_it() {
    let page = io_page();
    page.says("Nothing in hyper ends that wait");
    let large = 100 * program::ROOM;
    let (client, server) = pipe();
    let conn = serve(server, large);
    let mut client = TokioIo::new(client);
    client.write_all(GET).await.unwrap();
    assert!(timeout(HOUR, conn).await.is_err(), "it waits");

    let (client, server) = pipe();
    let server = limits::WriteStall::new(TokioIo::new(server), limits::WRITE_STALL);
    let conn = serve(TokioIo::new(server), large);
    let mut client = TokioIo::new(client);
    client.write_all(GET).await.unwrap();
    let start = Instant::now();
    let error = timeout(HOUR, conn).await.expect("it ends").unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("the client does not read"), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), limits::WRITE_STALL.as_secs());
}

// Vectored writes.

/// Takes all that it is given, and counts the calls. Does it say that it takes pieces, and does it?
struct Calls {
    io: Pipe,
    says: bool,
    takes: bool,
    writes: Arc<AtomicUsize>,
    vectored: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Read for Calls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, cursor)
    }
}

impl Write for Calls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Relaxed);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

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

    fn is_write_vectored(&self) -> bool {
        self.asked.fetch_add(1, Relaxed);
        self.says
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.takes {
            self.vectored.fetch_add(1, Relaxed);
            let bytes: Vec<u8> =
                pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            Pin::new(&mut self.io).poll_write(cx, &bytes)
        } else {
            // As the method is by default.
            let piece = pieces.iter().find(|piece| !piece.is_empty());
            self.poll_write(cx, piece.map_or(&[], |piece| piece))
        }
    }
}

/// How often a server calls poll_write and poll_write_vectored for a response.
async fn writes(says: bool, takes: bool) -> (usize, usize) {
    let (client, server) = pipe();
    let (writes, vectored) = (Arc::<AtomicUsize>::default(), Arc::default());
    let (w, v) = (Arc::clone(&writes), Arc::<AtomicUsize>::clone(&vectored));
    let asked = Arc::default();
    let conn = serve(Calls { io: server, says, takes, writes, vectored, asked }, 100);
    let answer = answer(client, CLOSE).await;
    assert!(answer.ends_with(&".".repeat(100)), "{answer}");
    conn.await.unwrap().unwrap();
    (w.load(Relaxed), v.load(Relaxed))
}

#[tokio::test]
async fn vectored_writes_are_as_the_table_says() {
    let page = io_page();
    page.says("true | takes all pieces | one poll_write_vectored, no copy");
    assert_eq!(writes(true, true).await, (0, 1));
    page.says("false, the default | anything | one poll_write, after hyper has copied the body behind the head");
    assert_eq!(writes(false, true).await, (1, 0));
    assert_eq!(writes(false, false).await, (1, 0));
    let count = page.number("true | the default | {} poll_write: the head, then the body");
    assert_eq!(writes(true, false).await, (count as usize, 0));
}

#[tokio::test]
async fn hyper_asks_once_for_a_connection() {
    io_page().says("hyper asks is_write_vectored once, when the connection is built.");
    let (client, server) = pipe();
    let asked = Arc::<AtomicUsize>::default();
    let (writes, vectored) = (Arc::default(), Arc::default());
    let count = Arc::clone(&asked);
    let io = Calls { io: server, says: true, takes: true, writes, vectored, asked };
    let conn = serve(io, 100);
    let two = [b"GET / HTTP/1.1\r\n\r\n", CLOSE].concat();
    let answers = answer(client, &two).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    conn.await.unwrap().unwrap();
    assert_eq!(count.load(Relaxed), 1);
}

// Rules.

/// An IO with one rule broken.
#[derive(Clone, Copy)]
enum Broken {
    Nothing,
    /// It says that it is ready, and gives no bytes.
    EmptyRead,
    /// It takes no bytes.
    ZeroWrite,
    /// It does not pass the shutdown on.
    Shutdown,
}

struct Breaks(Pipe, Broken);

impl Read for Breaks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.1, Broken::EmptyRead) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.0).poll_read(cx, cursor)
    }
}

impl Write for Breaks {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.1, Broken::ZeroWrite) {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.1, Broken::Shutdown) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", text(source)),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn a_read_without_bytes_is_the_end() {
    let page = io_page();
    let (client, server) = pipe();
    serve(Breaks(server, Broken::EmptyRead), 3).await.unwrap().unwrap();
    drop(client);

    let (client, _server) = pipe();
    let io = Breaks(client, Broken::EmptyRead);
    let (mut sender, conn) = client::conn::http1::handshake(io).await.unwrap();
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let sent = sender.send_request(request);
    let conn = tokio::spawn(conn);
    let error = text(&sent.await.unwrap_err());
    conn.await.unwrap().ok();
    let message = "connection closed before message completed";
    assert!(error.contains(message), "{error}");
    page.says(message);
}

#[tokio::test]
async fn a_write_of_nothing_is_an_error() {
    let (client, server) = pipe();
    let conn = serve(Breaks(server, Broken::ZeroWrite), 3);
    let mut client = TokioIo::new(client);
    client.write_all(GET).await.unwrap();
    let error = text(&conn.await.unwrap().unwrap_err());
    assert_eq!(error, "error writing a body to connection: write zero");
    io_page().says(&error);
}

#[test]
fn put_slice_checks_the_room() {
    let message = "src.len() must fit in remaining()";
    io_page().says(message);
    let mut bytes = [0; 4];
    let mut buffer = ReadBuf::new(&mut bytes);
    let panic =
        catch_unwind(AssertUnwindSafe(|| buffer.unfilled().put_slice(b"hello")));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), message);
    buffer.unfilled().put_slice(b"hell");
    assert_eq!(buffer.filled(), b"hell");
    assert_eq!(buffer.unfilled().remaining(), 0);
}

/// A client that holds its end open sees the end of the response by the shutdown alone.
#[tokio::test(start_paused = true)]
async fn poll_shutdown_is_the_end_that_the_peer_reads() {
    io_page().says("until the IO itself is dropped");
    for (broken, ends) in [(Broken::Nothing, true), (Broken::Shutdown, false)] {
        let (client, server) = pipe();
        let mut client = TokioIo::new(client);
        client.write_all(CLOSE).await.unwrap();
        let http1 = server::conn::http1::Builder::new();
        let service = service_fn(program::hello);
        let mut conn = http1.serve_connection(Breaks(server, broken), service);
        // The connection is over, and still there.
        (&mut conn).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(HOUR, client.read_to_end(&mut answer)).await;
        assert_eq!(read.is_ok(), ends);
        drop(conn);
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"Hello, World!\n"));
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_needs_half_close() {
    io_page().says("With half_close(true) it is answered");
    for half_close in [false, true] {
        let (client, server) = pipe();
        let mut builder = server::conn::http1::Builder::new();
        builder.half_close(half_close);
        let service = service_fn(async |_: Request<Incoming>| {
            tokio::task::yield_now().await;
            Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from("hello")))
        });
        let conn = tokio::spawn(builder.serve_connection(server, service));
        let mut client = TokioIo::new(client);
        client.write_all(GET).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 200 OK"), half_close, "{answer}");
        assert_eq!(conn.await.unwrap().is_ok(), half_close);
    }
}

/// The writes of the client, and how long it takes until the request is whole.
#[tokio::test(start_paused = true)]
async fn a_slow_client_sends_its_request_in_pieces() {
    let [bytes, piece, pause] = io_page().numbers(
        "the {} bytes of the request go in pieces of {}, with {} milliseconds between them",
    );
    let (client, mut server) = pipe();
    let pause = Duration::from_millis(pause);
    let slow = program::Slow::new(client, piece as usize, pause);
    let (mut sender, conn) = client::conn::http1::handshake(slow).await.unwrap();
    tokio::spawn(conn);
    let request = Request::get("/").header("host", "pipe").body(Empty::<Bytes>::new());
    let start = Instant::now();
    let asking = tokio::spawn(sender.send_request(request.unwrap()));
    let mut pieces = Vec::new();
    let mut server = TokioIo::new(&mut server);
    while pieces.iter().sum::<usize>() < bytes as usize {
        let mut read = [0; 100];
        pieces.push(server.read(&mut read).await.unwrap());
    }
    let pauses = bytes.div_ceil(piece) - 1;
    assert!(pieces.iter().all(|read| *read <= piece as usize), "{pieces:?}");
    assert_eq!(start.elapsed().as_millis(), pause.as_millis() * u128::from(pauses));
    asking.abort();
}
