//! What src/server/streaming.md promises.

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use http_body_util::channel::{Channel, Sender as ChannelSender};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};

use harness::{Connection, LIMIT, Program, memory, page, sockets, wait};

use crate::client::pool::until;
use program::Streamed;

/// The program itself, for its pieces.
#[allow(dead_code)]
#[path = "../../server/streaming.rs"]
mod program;

const LEFT: &str = "connection closed before message completed";
const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const HOUR: Duration = Duration::from_secs(3600);

type BoxError = Box<dyn Error + Send + Sync>;

// On the running program.

/// How many numbers the program has made, and how many streams are open.
fn stats(connection: &mut Connection) -> (u64, u64) {
    connection.get("/stats");
    let answer = connection.response().unwrap();
    let text = answer.text().strip_suffix(" streams open\n").unwrap();
    let (made, streams) = text.split_once(" numbers made, ").unwrap();
    (made.parse().unwrap(), streams.parse().unwrap())
}

/// Waits until the program makes no more numbers: how many there are.
fn pause(connection: &mut Connection) -> u64 {
    let (mut last, mut same) = (0, 0);
    wait("the producer to stop while nobody reads", || {
        let made = stats(connection).0;
        same = if made == last { same + 1 } else { 0 };
        last = made;
        same == 50
    });
    last
}

#[test]
fn the_first_numbers_arrive_while_the_others_are_made() {
    let program = Program::start("streaming");
    let mut connection = program.connect();
    // This stream has no end.
    connection.get("/numbers");
    let head = connection.head().unwrap();
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    let chunk = connection.chunk().unwrap().unwrap();
    assert!(chunk.starts_with(b"1\n2\n3\n"));
    assert_eq!(stats(&mut program.connect()).1, 1);
}

#[test]
fn the_numbers_are_all_there() {
    let program = Program::start("streaming");
    let mut connection = program.connect();
    for last in [0, 1, 999, 1000, 1001, 12_345] {
        connection.get(&format!("/numbers?{last}"));
        let expected: String = (1..=last).map(|n| format!("{n}\n")).collect();
        let answer = connection.response().unwrap();
        assert_eq!(answer.text(), expected);
    }
    wait("the end of the producers", || stats(&mut connection).1 == 0);
}

#[test]
fn a_reader_that_stops_stops_the_producer() {
    let program = Program::start("streaming");
    let mut other = program.connect();
    stats(&mut other);
    let before = memory(program.id());
    let mut connection = program.connect();
    connection.get("/numbers");
    let made = pause(&mut other);
    // What the kernel's buffers hold is none of the program's memory.
    if let (Some(before), Some(after)) = (before, memory(program.id())) {
        let grown = after.saturating_sub(before);
        assert!(grown < 16 * 1024, "the program has grown by {grown} KiB");
    }
    assert_eq!(stats(&mut other).1, 1, "the stream is still there");

    connection.head().unwrap();
    wait("the producer to go on", || {
        connection.chunk().unwrap().unwrap();
        stats(&mut other).0 > made
    });
}

#[test]
fn the_producer_ends_when_the_client_leaves() {
    let program = Program::start("streaming");
    let mut other = program.connect();
    for read_some in [true, false] {
        let mut connection = program.connect();
        connection.get("/numbers");
        if read_some {
            connection.head().unwrap();
            connection.chunk().unwrap();
        } else {
            pause(&mut other);
        }
        assert_eq!(stats(&mut other).1, 1);
        drop(connection);
        wait("the end of the producer", || stats(&mut other).1 == 0);
        let line = program.line();
        let reset = line.contains("Connection reset by peer");
        let broken = line.contains("error writing a body to connection: Broken pipe");
        let closed = line.ends_with(LEFT);
        assert!(reset || broken || closed, "{line}");
    }
}

#[test]
fn an_order_is_placed_although_its_client_has_left() {
    let program = Program::start("streaming");
    let mut connection = program.connect();
    connection.send("POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(program.line(), "an order has come");
    drop(connection);
    let mut lines = [program.line(), program.line()];
    lines.sort();
    let [failed, placed] = lines;
    assert_eq!(failed, format!("connection failed: {LEFT}"));
    assert_eq!(placed, "the order is placed");
}

// The pieces of the program.

/// The frames of a body, and how it ends.
async fn read<B>(mut body: B) -> (String, Result<(), B::Error>)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                text.push_str(str::from_utf8(&frame.into_data().unwrap()).unwrap());
            }
            Err(error) => return (text, Err(error)),
        }
    }
    (text, Ok(()))
}

#[tokio::test]
async fn one_piece_is_made_ahead() {
    let ahead = page("server/streaming").number("{} numbers a piece");
    let stats = Arc::new(program::Stats::default());
    let mut body =
        Streamed::new(|sender| program::numbers(sender, u64::MAX, stats.clone()));
    for taken in 1..5 {
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(stats.made.load(Relaxed), taken * ahead);
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    while stats.streams.load(Relaxed) > 0 {
        yield_now().await;
    }
}

async fn fails(sender: mpsc::Sender<Bytes>) -> Result<(), BoxError> {
    sender.send("half".into()).await?;
    // So that what was sent has left the server.
    tokio::time::sleep(HOUR).await;
    Err("the database is gone".into())
}

async fn panics(sender: mpsc::Sender<Bytes>) -> Result<(), BoxError> {
    sender.send("half".into()).await?;
    tokio::time::sleep(HOUR).await;
    panic!("this panic is part of a test")
}

async fn ends(sender: mpsc::Sender<Bytes>) -> Result<(), BoxError> {
    sender.send("half".into()).await?;
    Ok(())
}

/// Which end a producer comes to.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Whole,
    Error,
    Panic,
}

const BROKEN: [End; 2] = [End::Error, End::Panic];

fn streamed(end: End) -> Streamed {
    match end {
        End::Whole => Streamed::new(ends),
        End::Error => Streamed::new(fails),
        End::Panic => Streamed::new(panics),
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_fails_as_its_producer_fails() {
    let (text, end) = read(streamed(End::Whole)).await;
    assert_eq!(text, "half");
    end.unwrap();
    let (text, end) = read(streamed(End::Error)).await;
    assert_eq!(text, "half");
    assert_eq!(end.unwrap_err().to_string(), "the database is gone");
    let (text, end) = read(streamed(End::Panic)).await;
    assert_eq!(text, "half");
    let error = end.unwrap_err().to_string();
    assert!(error.contains("panicked"), "{error}");
}

/// A connection to a server with this service, in memory.
fn http1<S, B>(builder: &http1::Builder, service: S) -> (DuplexStream, Conn)
where
    S: HttpService<Incoming, ResBody = B, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (client, server) = duplex(1024);
    let conn = builder.serve_connection(TokioIo::new(server), service);
    (client, tokio::spawn(conn))
}

type Conn = JoinHandle<hyper::Result<()>>;

#[tokio::test(start_paused = true)]
async fn a_client_can_tell_half_a_response_from_a_whole_one() {
    for (version, length) in [("1.1", false), ("1.1", true), ("1.0", false)] {
        for end in [End::Whole, End::Error, End::Panic] {
            let service = service_fn(move |_: Request<Incoming>| async move {
                let mut response = Response::new(streamed(end));
                if length {
                    let size = if end == End::Whole { 4 } else { 8 };
                    response.headers_mut().insert("content-length", size.into());
                }
                Ok::<_, Infallible>(response)
            });
            let (mut client, conn) = http1(&http1::Builder::new(), service);
            let request = format!(
                "GET / HTTP/{version}\r\nhost: x\r\nconnection: close\r\n\r\n"
            );
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            match (version, length) {
                ("1.1", false) => {
                    let last = if end == End::Whole { "0\r\n\r\n" } else { "" };
                    assert_eq!(body, format!("4\r\nhalf\r\n{last}"));
                }
                (_, length) => {
                    assert_eq!(body, "half");
                    assert_eq!(head.contains("content-length: "), length);
                }
            }
            let result = conn.await.unwrap();
            if BROKEN.contains(&end) {
                let error = result.unwrap_err();
                assert_eq!(error.to_string(), "error from user's Body stream");
            } else {
                result.unwrap();
            }
        }
    }
}

/// A client of a server with this service that speaks HTTP/2, in memory. The connection is lost if
/// the first of the tasks is aborted.
async fn http2<S, B>(service: S) -> (SendRequest<Empty<Bytes>>, JoinHandle<()>, Conn)
where
    S: HttpService<Incoming, ResBody = B, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (client, mut left) = duplex(64 * 1024);
    let (mut right, server) = duplex(64 * 1024);
    let cable = tokio::spawn(async move {
        copy_bidirectional(&mut left, &mut right).await.ok();
    });
    let server = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), service);
    let server = tokio::spawn(server);
    let io = TokioIo::new(client);
    let (client, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(driver);
    (client, cable, server)
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://x/").body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn over_http2_half_a_response_ends_with_a_reset() {
    for end in BROKEN {
        let service = service_fn(move |_: Request<Incoming>| async move {
            Ok::<_, Infallible>(Response::new(streamed(end)))
        });
        let (mut client, _cable, _server) = http2(service).await;
        let response = client.send_request(get()).await.unwrap();
        let (text, end) = read(response.into_body()).await;
        assert_eq!(text, "half");
        let error = program::report(&end.unwrap_err());
        assert!(error.contains("unexpected internal error encountered"), "{error}");
    }
}

/// A body that fails before hyper can write what came first.
struct Half(usize);

impl Body for Half {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0 += 1;
        Poll::Ready(Some(match self.0 {
            1 => Ok(Frame::data("half\n".into())),
            _ => Err(io::Error::other("the database is gone")),
        }))
    }
}

#[tokio::test]
async fn an_error_discards_what_is_not_written_yet() {
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Half(0)))
    });
    let (mut client, conn) = http1(&http1::Builder::new(), service);
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "");
    conn.await.unwrap().unwrap_err();
}

/// Serves one connection, and asks for it with curl.
async fn curl<B>(body: B) -> Receiver<String>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let body = Mutex::new(Some(body));
    tokio::spawn(async move {
        let (stream, _peer) = listener.accept().await.unwrap();
        let service = service_fn(move |_: Request<Incoming>| {
            let body = body.lock().unwrap().take().expect("one request");
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap_err();
    });
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sSN", "--noproxy", "*", "--max-time", "20", &url]);
    harness::spawn(curl).1
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_says_that_a_body_failed() {
    let (fail, failure) = oneshot::channel::<()>();
    let body = Streamed::new(async |sender| {
        sender.send("half\n".into()).await?;
        failure.await?;
        Err("the database is gone".into())
    });
    let lines = curl(body).await;
    assert_eq!(lines.recv_timeout(LIMIT).unwrap(), "half");
    fail.send(()).unwrap();
    let line = lines.recv_timeout(LIMIT).unwrap();
    let prose = page("server/streaming");
    prose.says("curl: (18)");
    assert!(line.starts_with("curl: (18) transfer closed"), "{line}");

    let lines = curl(Half(0)).await;
    prose.says("curl: (52) Empty reply from server");
    let line = lines.recv_timeout(LIMIT).unwrap();
    assert_eq!(line, "curl: (52) Empty reply from server");
}

// A client that leaves.

/// A handler that never answers: it holds the request, and says when it is dropped.
fn waits() -> (
    impl HttpService<Incoming, ResBody = Empty<Bytes>, Error = Infallible, Future: Send>
    + Send,
    Dropped,
) {
    let (alive, dropped) = oneshot::channel::<()>();
    let alive = Mutex::new(Some(alive));
    let service = service_fn(move |request: Request<Incoming>| {
        let alive = alive.lock().unwrap().take();
        async move {
            let _held = (alive, request);
            pending::<Result<Response<Empty<Bytes>>, Infallible>>().await
        }
    });
    (service, Dropped(dropped))
}

struct Dropped(oneshot::Receiver<()>);

impl Dropped {
    /// Waits an hour for the drop.
    async fn in_time(&mut self) -> bool {
        timeout(HOUR, &mut self.0).await.is_ok()
    }
}

/// Sends a request, waits until it is there, and does something to the connection.
async fn after(
    builder: &http1::Builder,
    request: &str,
    leave: impl AsyncFnOnce(DuplexStream) -> Option<DuplexStream>,
) -> bool {
    let (service, mut dropped) = waits();
    let (mut client, _conn) = http1(builder, service);
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(!dropped.in_time().await, "the handler waits");
    let _rest = leave(client).await;
    dropped.in_time().await
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_when_its_client_leaves() {
    let gone = async |_client: DuplexStream| None;
    let half = async |mut client: DuplexStream| {
        client.shutdown().await.unwrap();
        Some(client)
    };
    let builder = http1::Builder::new();
    assert!(after(&builder, GET, gone).await);
    assert!(after(&builder, GET, half).await, "half-closed");

    let mut half_close = http1::Builder::new();
    half_close.half_close(true);
    assert!(!after(&half_close, GET, half).await);
    assert!(!after(&half_close, GET, gone).await, "nobody reads");

    // hyper does not read either while bytes wait that the handler has not taken.
    assert!(!after(&builder, &format!("{GET}G"), gone).await, "pipelined");
    let upload = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345";
    assert!(!after(&builder, upload, gone).await, "an upload that is not read");
}

#[tokio::test(start_paused = true)]
async fn over_http2_a_handler_is_dropped_too() {
    // The request is cancelled.
    let (service, mut dropped) = waits();
    let (mut client, _cable, server) = http2(service).await;
    let response = tokio::spawn(client.send_request(get()));
    assert!(!dropped.in_time().await, "the handler waits");
    response.abort();
    assert!(dropped.in_time().await, "it goes on although its client has left");
    assert!(!server.is_finished(), "the connection goes on");

    // The connection is lost.
    let (service, mut dropped) = waits();
    let (mut client, cable, _server) = http2(service).await;
    let response = tokio::spawn(client.send_request(get()));
    assert!(!dropped.in_time().await, "the handler waits");
    cable.abort();
    assert!(dropped.in_time().await, "it goes on although its client has left");
    response.await.unwrap().unwrap_err();
}

/// A body that sends one piece, and then another when it is told; it says when it is dropped.
fn quiet() -> (
    impl HttpService<Incoming, ResBody = Streamed, Error = Infallible, Future: Send>
    + Send,
    mpsc::Sender<()>,
    Dropped,
) {
    let (alive, dropped) = oneshot::channel::<()>();
    let (go_on, told) = mpsc::channel(1);
    let held = Mutex::new(Some((alive, told)));
    let service = service_fn(move |_: Request<Incoming>| {
        let held = held.lock().unwrap().take();
        async move {
            Ok::<_, Infallible>(Response::new(Streamed::new(async |sender| {
                let Some((_alive, mut told)) = held else { return Ok(()) };
                while told.recv().await.is_some() {
                    sender.send("a line\n".into()).await?;
                }
                pending().await
            })))
        }
    });
    (service, go_on, Dropped(dropped))
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_dropped_when_its_client_leaves() {
    let (service, go_on, mut dropped) = quiet();
    let (mut client, conn) = http1(&http1::Builder::new(), service);
    client.write_all(GET.as_bytes()).await.unwrap();
    go_on.send(()).await.unwrap();
    assert!(!dropped.in_time().await);
    drop(client);
    assert!(dropped.in_time().await, "it goes on although its client has left");
    let error = conn.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), LEFT);
    assert!(error.is_incomplete_message());

    let (service, go_on, mut dropped) = quiet();
    let (mut client, _cable, server) = http2(service).await;
    go_on.send(()).await.unwrap();
    let response = client.send_request(get()).await.unwrap();
    assert!(!dropped.in_time().await);
    drop(response);
    assert!(dropped.in_time().await, "it goes on although its client has left");
    assert!(!server.is_finished());
}

#[tokio::test(start_paused = true)]
async fn only_a_write_finds_a_client_that_hyper_does_not_read_from() {
    let mut half_close = http1::Builder::new();
    half_close.half_close(true);
    let default = http1::Builder::new();
    for (builder, rest) in [(half_close, ""), (default, "G")] {
        let (service, go_on, mut dropped) = quiet();
        let (mut client, _conn) = http1(&builder, service);
        client.write_all(format!("{GET}{rest}").as_bytes()).await.unwrap();
        go_on.send(()).await.unwrap();
        assert!(!dropped.in_time().await);
        drop(client);
        assert!(!dropped.in_time().await);
        go_on.send(()).await.unwrap();
        assert!(dropped.in_time().await, "it goes on although its client has left");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_nobody_reads_from_leaves_its_socket_in_close_wait() {
    page("server/streaming").says("Until then its socket is in CLOSE_WAIT, as ss shows.");
    const CLOSE_WAIT: u8 = 8;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (server, from) = listener.accept().await.unwrap();
    let service = service_fn(async |upload: Request<Incoming>| {
        pending::<()>().await;
        drop(upload);
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let conn = tokio::spawn(conn);
    let upload = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello";
    client.write_all(upload).await.unwrap();
    drop(client);
    let states = || -> BTreeSet<u8> {
        let ours = sockets().into_iter();
        let ours = ours.filter(|it| (it.local_port, it.remote_port) == (port, from.port()));
        ours.map(|it| it.state).collect()
    };
    until("the socket in CLOSE_WAIT", || states() == [CLOSE_WAIT].into()).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(states(), [CLOSE_WAIT].into());
    assert!(!conn.is_finished());
    conn.abort();
}

#[tokio::test]
async fn a_thread_learns_it_from_its_next_piece() {
    let (sender, receiver) = mpsc::channel(1);
    let thread = spawn_blocking(move || {
        let mut sent = 0;
        while sender.blocking_send(Bytes::from("piece")).is_ok() {
            sent += 1;
        }
        sent
    });
    let mut receiver = receiver;
    receiver.recv().await.unwrap();
    drop(receiver);
    assert!(thread.await.unwrap() >= 1);
}

// Channel.

/// In this waker a clone may do something, as another thread could at the same time.
static CLONES: AtomicUsize = AtomicUsize::new(0);
static SENDER: Mutex<Option<ChannelSender<Bytes>>> = Mutex::new(None);

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |_| {
        // The first clone waits for a piece, the second for an error.
        if CLONES.fetch_add(1, Relaxed) == 1 {
            let mut sender = SENDER.lock().unwrap().take().unwrap();
            let sent = sender.try_send(Frame::data("last".into()));
            assert!(sent.is_ok(), "the channel takes the frame");
        }
        RawWaker::new(std::ptr::null(), &VTABLE)
    },
    |_| {},
    |_| {},
    |_| {},
);

#[test]
fn a_channel_can_lose_the_last_piece() {
    let (sender, mut body) = Channel::<Bytes>::new(1);
    *SENDER.lock().unwrap() = Some(sender);
    let waker = unsafe { Waker::new(std::ptr::null(), &VTABLE) };
    let mut cx = Context::from_waker(&waker);
    let end = Pin::new(&mut body).poll_frame(&mut cx);
    assert!(matches!(end, Poll::Ready(None)), "{end:?}");
}
