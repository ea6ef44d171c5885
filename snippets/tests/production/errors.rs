//! What src/production/errors.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};

use harness::{LIMIT, Program, Prose, page, wait};

use super::super::client::failures::{Memory, read_head};
use super::super::client::retries::{DATA, answer, reset};
use super::super::server::auto::tls;
use super::super::server::limits::{
    END_HEADERS_AND_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, code,
    frame, read_frame, requests, slow_and_reset,
};
use program::Severity::{self, Bug, Count, Warn};

/// The program itself, for tests on a connection in memory with a clock that they move.
#[allow(dead_code)]
#[path = "../../production/errors.rs"]
mod program;

type BoxError = Box<dyn Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;
type Answer = Result<Response<Body>, BoxError>;

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
/// GET / over http, authority x.
const GET_2: &[u8] = b"\x82\x86\x84\x41\x01x";
const END_HEADERS: u8 = 4;

fn errors() -> Prose {
    page("production/errors")
}

/// A row of the page's tables of errors: what happens, what the program makes of it, who gets the
/// error, and its text. `…` stands for the rest of a text.
#[track_caller]
fn row(what: &str, who: &str, text: &str, error: &(dyn Error + 'static)) {
    let report = program::report(error);
    match text.split_once('…') {
        Some((start, _)) => assert!(report.starts_with(start), "{report}"),
        None => assert_eq!(report, text),
    }
    let severity = format!("{:?}", program::severity(error)).to_lowercase();
    errors().says(&format!("{what} | {severity} | {who} | {text}"));
}

/// Asserts what an error says, and what the program makes of it.
#[track_caller]
fn sorted(error: &(dyn Error + 'static), text: &str, severity: Severity) {
    assert_eq!(program::report(error), text);
    assert_eq!(program::severity(error), severity, "{text}");
}

type Method = (&'static str, fn(&hyper::Error) -> bool);
const METHODS: [Method; 11] = [
    ("is_user", hyper::Error::is_user),
    ("is_body_write_aborted", hyper::Error::is_body_write_aborted),
    ("is_parse", hyper::Error::is_parse),
    ("is_parse_too_large", hyper::Error::is_parse_too_large),
    ("is_parse_status", hyper::Error::is_parse_status),
    ("is_parse_version_h2", hyper::Error::is_parse_version_h2),
    ("is_incomplete_message", hyper::Error::is_incomplete_message),
    ("is_timeout", hyper::Error::is_timeout),
    ("is_canceled", hyper::Error::is_canceled),
    ("is_closed", hyper::Error::is_closed),
    ("is_shutdown", hyper::Error::is_shutdown),
];

/// The methods that are true of this error, and no others.
#[track_caller]
fn is(error: &(dyn Error + 'static), expected: &[&str]) {
    let error: &hyper::Error = find(error);
    let is: Vec<_> =
        METHODS.iter().filter(|(_, is)| is(error)).map(|(name, _)| *name).collect();
    assert_eq!(is, expected, "{error:?}");
}

/// The first error of this type in the chain.
#[track_caller]
fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> &'e E {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return error;
        }
        next = error.source();
    }
    panic!("there is no {} in {error:?}", std::any::type_name::<E>())
}

fn text(text: &'static str) -> Response<Body> {
    Response::new(Full::from(text).map_err(BoxError::from).boxed_unsync())
}

/// A body of a first piece and an error.
fn fails() -> Response<Body> {
    let pieces = [Ok(Frame::data(Bytes::from("half"))), Err("the disk is gone".into())];
    Response::new(StreamBody::new(stream::iter(pieces)).boxed_unsync())
}

/// A body that panics when it is polled.
fn panics() -> Response<Body> {
    text("page").map(|body| body.map_frame(|_| panic!("no template")).boxed_unsync())
}

type Ends = JoinHandle<hyper::Result<()>>;

/// A connection in memory to a service behind hyper's HTTP/1, and how it ends.
fn version_1<F, R>(handle: F) -> (DuplexStream, Ends)
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let (client, server) = duplex(1024);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(program::HEAD);
    let conn = builder.serve_connection(TokioIo::new(server), service_fn(handle));
    (client, tokio::spawn(conn))
}

/// The same over HTTP/2.
fn version_2<F, R>(handle: F) -> (DuplexStream, Ends)
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let (client, server) = duplex(64 * 1024);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(program::PING_AFTER)
        .keep_alive_timeout(program::PING_ANSWER);
    let conn = builder.serve_connection(TokioIo::new(server), service_fn(handle));
    (client, tokio::spawn(conn))
}

fn hello_response() -> Response<Body> {
    text("hello")
}

async fn hello(_: Request<Incoming>) -> Answer {
    Ok(text("hello"))
}


/// The error that the connection ends with after these bytes of a client that then leaves.
async fn after<F, R>(handle: F, bytes: impl AsRef<[u8]>) -> hyper::Error
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let (mut client, conn) = version_1(handle);
    client.write_all(bytes.as_ref()).await.unwrap();
    // All tasks have done what they can before the clock moves.
    sleep(Duration::from_millis(1)).await;
    client.shutdown().await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    in_time(conn).await.unwrap().expect_err("the connection fails")
}

/// The error of a connection over HTTP/2 after these frames; the client waits for its end.
async fn after_frames(frames: &[u8]) -> hyper::Error {
    let (mut client, conn) = version_2(async |_| pending().await);
    client.write_all(frames).await.unwrap();
    tokio::spawn(async move { client.read_to_end(&mut Vec::new()).await });
    in_time(conn).await.unwrap().expect_err("the connection fails")
}

fn begin(frames: &[u8]) -> Vec<u8> {
    [PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, &[]), frames].concat()
}

async fn in_time<F: Future>(what: F) -> F::Output {
    timeout(10 * LIMIT, what).await.expect("it ends in time")
}

// Servers: the other side left, was slow, or broke the rules.

const CONNECTION: &str = "the connection";
const HANDLER: &str = "the handler";
const INCOMPLETE: &str = "connection closed before message completed";

#[tokio::test(start_paused = true)]
async fn a_client_leaves_before_the_response() {
    let what = "the client leaves in a head, or before the end of the response";
    let in_the_head = after(hello, "GET / HT").await;
    let handler_runs = after(async |_| pending().await, GET).await;
    let (mut client, conn) = version_1(async |_| {
        let piece = || Ok(Frame::data(Bytes::from_static(&[b'.'; 4096])));
        let endless = stream::repeat_with(piece);
        Ok(Response::new(StreamBody::new(endless).boxed_unsync()))
    });
    client.write_all(GET.as_bytes()).await.unwrap();
    client.read_exact(&mut [0; 10]).await.unwrap();
    drop(client);
    let response = in_time(conn).await.unwrap().unwrap_err();
    for error in [in_the_head, handler_runs, response] {
        row(what, CONNECTION, INCOMPLETE, &error);
        is(&error, &["is_incomplete_message"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_no_error() {
    errors().says("a client that leaves before it has sent anything is no error");
    let (client, conn) = version_1(hello);
    drop(client);
    in_time(conn).await.unwrap().unwrap();
    let (client, server) = duplex(1024);
    drop(client);
    let builder = program::builder();
    let conn = builder.serve_connection(TokioIo::new(server), service_fn(hello));
    in_time(conn).await.unwrap();

    errors().says("connection closed before reading preface, which is counted");
    let (mut client, conn) = version_2(hello);
    client.shutdown().await.unwrap();
    let error = in_time(conn).await.unwrap().unwrap_err();
    let text = "connection error: connection closed before reading preface";
    sorted(&error, text, Count);
}

/// A handler that reads the whole body, and what it gets.
fn reader() -> (impl Fn(Request<Incoming>) -> BoxFuture, Receiver<Outcome>) {
    let (sender, receiver) = channel(1);
    let handle = move |request: Request<Incoming>| {
        let sender = sender.clone();
        let read = async move {
            let body = request.into_body().collect().await;
            sender.send(body.map(|body| body.to_bytes())).await.unwrap();
            Ok(text("read"))
        };
        Box::pin(read) as BoxFuture
    };
    (handle, receiver)
}

type BoxFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Outcome = hyper::Result<Bytes>;

const POST: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf";

#[tokio::test(start_paused = true)]
async fn a_client_leaves_in_its_body() {
    let (handle, mut read) = reader();
    let (mut client, conn) = version_1(handle);
    client.write_all(POST.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let error = in_time(read.recv()).await.unwrap().unwrap_err();
    let text =
        "error reading a body from connection: end of file before message length reached";
    row("the client leaves in its body", HANDLER, text, &error);
    is(&error, &[]);
    errors().says("All are false for a connection that is reset, a body that breaks off, and other errors of HTTP/2");
    conn.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_leaves_during_the_response() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let endless = async |_| {
        let pieces = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'.'; 65536]))));
        Ok::<_, Infallible>(Response::new(StreamBody::new(pieces).map_err(no_error)))
    };
    let conn = http1::Builder::new()
        .serve_connection(TokioIo::new(server), service_fn(endless));
    let conn = tokio::spawn(conn);
    client.write_all(GET.as_bytes()).await.unwrap();
    client.read_exact(&mut [0; 1024]).await.unwrap();
    drop(client);
    let error = in_time(conn).await.unwrap().unwrap_err();
    assert_eq!(program::severity(&error), Count);
    is(&error, &[]);
    let texts = [
        "Connection reset by peer (os error 104)",
        "Broken pipe (os error 32)",
    ];
    let report = program::report(&error);
    assert!(texts.iter().any(|text| report.ends_with(text)), "{report}");
    errors().says(&format!(
        "the same, with something unread: a reset | count | the connection | … {}, or … {}",
        texts[0], texts[1]
    ));
}

fn no_error(never: Infallible) -> Infallible {
    never
}

#[tokio::test(start_paused = true)]
async fn a_client_is_slow() {
    let what = "the client is idle, or slow with its head";
    for bytes in ["", "GET / HT", GET] {
        let (mut client, conn) = version_1(hello);
        client.write_all(bytes.as_bytes()).await.unwrap();
        let error = in_time(conn).await.unwrap().unwrap_err();
        row(what, CONNECTION, "read header from client timeout", &error);
        is(&error, &["is_timeout"]);
    }
    let request = frame(HEADERS, END_HEADERS_AND_STREAM, 1, GET_2);
    let error = after_frames(&begin(&request)).await;
    let text = "http2 error: keep-alive timed out: operation timed out";
    row("no answer to a PING", CONNECTION, text, &error);
    is(&error, &["is_timeout"]);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_no_http_is_a_warning() {
    let too_long = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(500_000));
    let long_uri = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(66_000));
    for (bytes, text, more) in [
        ("\x16\x03\x01\x02\x00\x01", "invalid HTTP method parsed", None),
        ("GET / HTTP/9.9\r\n\r\n", "invalid HTTP version parsed", None),
        ("GET / HTTP/1.1\r\na\r\n\r\n", "invalid HTTP header parsed", None),
        (&too_long, "message head is too large", Some("is_parse_too_large")),
        (&long_uri, "URI too long", Some("is_parse_too_large")),
        (
            PREFACE,
            "invalid HTTP version parsed (found HTTP2 preface)",
            Some("is_parse_version_h2"),
        ),
    ] {
        let (mut client, conn) = version_1(hello);
        let bytes = bytes.to_owned();
        tokio::spawn(async move {
            client.write_all(bytes.as_bytes()).await.ok();
            client.read_to_end(&mut Vec::new()).await.ok();
        });
        let error = in_time(conn).await.unwrap().unwrap_err();
        sorted(&error, text, Warn);
        is(&error, &["is_parse"].into_iter().chain(more).collect::<Vec<_>>());
    }
    let error = after(hello, "\x16\x03\x01\x02\x00\x01").await;
    row("TLS on a plain port", CONNECTION, "invalid HTTP method parsed", &error);
}

#[tokio::test(start_paused = true)]
async fn bad_http2_is_a_warning() {
    let error = after_frames(GET.repeat(2).as_bytes()).await;
    let text = "http2 error: connection error detected: unspecific protocol error detected";
    row("HTTP/1 on an HTTP/2 port", CONNECTION, text, &error);
    is(&error, &[]);
    assert_eq!(find::<h2::Error>(&error).reason(), Some(h2::Reason::PROTOCOL_ERROR));

    let error = after_frames(&begin(&requests(0, 400, slow_and_reset))).await;
    let text = "http2 error: connection error detected: detected excessive load generating behavior";
    row("too many resets", CONNECTION, text, &error);
    assert_eq!(find::<h2::Error>(&error).reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));

    let said = [&[0, 0, 0, 0, 0, 0, 0, 2], &b"hi\n"[..]].concat();
    let error = after_frames(&begin(&frame(GOAWAY, 0, 0, &said))).await;
    let text = "http2 error: connection error received: …";
    row("a GOAWAY with an error", CONNECTION, text, &error);
    // What the client wrote is in the text.
    errors().says("The text of a GOAWAY may hold what the peer wrote");
    assert!(program::report(&error).ends_with(r#"(b"hi\n")"#));
}

/// What a handler reads of an upload over HTTP/2 that has begun and gets these frames, or ends with
/// the connection if there are none.
async fn upload_and(frames: &[u8]) -> hyper::Result<Bytes> {
    let (handle, mut read) = reader();
    let (mut client, _conn) = version_2(handle);
    let half =
        [frame(HEADERS, END_HEADERS, 1, GET_2), frame(DATA, 0, 1, b"half")].concat();
    client.write_all(&begin(&half)).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    client.write_all(frames).await.unwrap();
    if frames.is_empty() {
        drop(client);
    } else {
        tokio::spawn(async move { client.read_to_end(&mut Vec::new()).await });
    }
    in_time(read.recv()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_upload_over_http2_is_reset() {
    let error = upload_and(&reset(h2::Reason::CANCEL)).await.unwrap_err();
    let text = "error reading a body from connection: stream error received: stream no longer needed";
    row("an upload is reset with CANCEL", HANDLER, text, &error);
    is(&error, &[]);

    let what = "an upload is reset with another reason";
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::PROTOCOL_ERROR] {
        let error = upload_and(&reset(reason)).await.unwrap_err();
        let text = "error reading a body from connection: stream error received: …";
        row(what, HANDLER, text, &error);
        assert_eq!(find::<h2::Error>(&error).reason(), Some(reason));
    }
    // The connection ends: h2 has an io::Error, which is not its source.
    let error = upload_and(&[]).await.unwrap_err();
    assert!(find::<h2::Error>(&error).source().is_none());
    assert_eq!(program::severity(&error), Count);

    errors().says("An upload that is reset with NO_ERROR ends the body without an error");
    let half = upload_and(&reset(h2::Reason::NO_ERROR)).await.unwrap();
    assert_eq!(half, "half");
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_version_is_known() {
    let (_client, server) = duplex(1024);
    let builder = program::builder();
    let conn = builder.serve_connection(TokioIo::new(server), service_fn(hello));
    let mut conn = std::pin::pin!(conn);
    assert!(timeout(Duration::from_millis(1), conn.as_mut()).await.is_err());
    conn.as_mut().graceful_shutdown();
    let error = in_time(conn).await.unwrap_err();
    let what = "you stop it, and its version is unknown";
    row(what, "the connection, with auto", "Cancelled", &*error);
}

/// A stream that closes as one of another runtime may: when it does, the client has just reset it.
struct Resets(TokioIo<TcpStream>, Option<std::net::TcpStream>);

impl Read for Resets {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Resets {
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

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let client = self.1.take().unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let server = SockRef::from(self.0.inner());
        wait("the reset", || server.take_error().unwrap().is_some());
        Poll::Ready(server.shutdown(std::net::Shutdown::Write))
    }
}

#[tokio::test]
async fn a_stream_that_fails_to_close() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = std::net::TcpStream::connect(address).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut client, request).unwrap();
    let io = Resets(TokioIo::new(server), Some(client));
    let conn = http1::Builder::new().serve_connection(io, service_fn(hello));
    let error = in_time(conn).await.unwrap_err();
    is(&error, &["is_shutdown"]);
    let source: &io::Error = find(&error);
    assert_eq!(source.kind(), io::ErrorKind::NotConnected);
    let text = "error shutting down connection: Transport endpoint is not connected (os error 107)";
    sorted(&error, text, Count);

    errors().says("TcpStream hides it");
    let client = std::net::TcpStream::connect(address).unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    wait("the reset", || SockRef::from(&server).take_error().unwrap().is_some());
    let plain = SockRef::from(&server).shutdown(std::net::Shutdown::Write);
    assert_eq!(plain.unwrap_err().kind(), io::ErrorKind::NotConnected);
    server.shutdown().await.unwrap();
}

// Servers: TLS.

#[tokio::test]
async fn handshakes_that_fail() {
    const ACCEPTOR: &str = "the acceptor";
    let (_, acceptor) = tls(&[], &[]);
    let (client, server) = duplex(64 * 1024);
    drop(client);
    let error = acceptor.accept(server).await.err().unwrap();
    let what = "the client leaves in the TLS handshake";
    row(what, ACCEPTOR, "tls handshake eof", &error);

    let (mut client, server) = duplex(64 * 1024);
    client.write_all(GET.as_bytes()).await.unwrap();
    let error = acceptor.accept(server).await.err().unwrap();
    let text = "received corrupt message of type InvalidContentType";
    row("plain HTTP on a TLS port", ACCEPTOR, text, &error);

    let (server, client) = untrusted().await;
    let what = "the client does not trust your certificate";
    row(what, ACCEPTOR, "received fatal alert: UnknownCA", &server);
    sorted(&client, "invalid peer certificate: UnknownIssuer", Warn);
}

/// The errors of both sides of a handshake with a client that trusts nobody.
async fn untrusted() -> (io::Error, io::Error) {
    let (_, acceptor) = tls(&[], &[]);
    let nobody = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(nobody));
    let (client, server) = duplex(64 * 1024);
    let name = "localhost".try_into().unwrap();
    let (client, server) =
        tokio::join!(connector.connect(name, client), acceptor.accept(server));
    (server.err().unwrap(), client.unwrap_err())
}

// Servers: what is yours.

#[tokio::test(start_paused = true)]
async fn errors_of_the_service_and_its_body_are_bugs() {
    let error = after(async |_| Err("no such table".into()), GET).await;
    let text = "error from user's Service: …";
    row("your service fails, over HTTP/1", CONNECTION, text, &error);
    is(&error, &["is_user"]);

    let error = after(async |_| Ok(fails()), GET).await;
    let text = "error from user's Body stream: …";
    row("your body fails, over HTTP/1", CONNECTION, text, &error);
    is(&error, &["is_user"]);

    let short = async |_| {
        let pieces = stream::iter([Ok(Frame::data(Bytes::from("short")))]);
        let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(9));
        Ok(response)
    };
    let error = after(short, GET).await;
    let what = "your body is shorter than its content-length";
    row(what, CONNECTION, "user body write aborted: …", &error);
    is(&error, &["is_user", "is_body_write_aborted"]);

    let informational = async |_| {
        let mut response = hello_response();
        *response.status_mut() = StatusCode::PROCESSING;
        Ok(response)
    };
    let error = after(informational, GET).await;
    sorted(&error, "response has 1xx status code, not supported by server", Bug);
    is(&error, &["is_user"]);

    let two_lengths = async |_| {
        let mut response = fails();
        for length in [8, 9] {
            response.headers_mut().append(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok(response)
    };
    let error = after(two_lengths, GET).await;
    sorted(&error, "user sent unexpected header", Bug);
    is(&error, &["is_user"]);
}

/// By its cause alone, each would be routine.
#[tokio::test(start_paused = true)]
async fn an_error_of_yours_is_a_bug_whatever_caused_it() {
    errors().says("is_user comes first, because the cause of your error may be an io::Error or a time limit");
    for cause in [io::ErrorKind::UnexpectedEof, io::ErrorKind::TimedOut] {
        let error = after(move |_| ready(Err(io::Error::from(cause).into())), GET).await;
        is(&error, &["is_user"]);
        assert_eq!(program::severity(&error), Bug);
        assert_eq!(program::severity(error.source().unwrap()), Count);
    }
    let late = async |_| {
        timeout(Duration::ZERO, pending::<()>()).await?;
        Ok(text("late"))
    };
    let error = after(late, GET).await;
    sorted(&error, "error from user's Service: deadline has elapsed", Bug);
    is(&error, &["is_user"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_passed_on_is_a_warning() {
    let passes_on = async |request: Request<Incoming>| {
        request.into_body().collect().await?;
        Ok(text("read"))
    };
    let error = after(passes_on, POST).await;
    let what = "your service passes on an error of a body";
    let text = "error from user's Service: error reading a body from connection: …";
    row(what, CONNECTION, text, &error);
    is(&error, &["is_user"]);
}

/// hyper's client over HTTP/2 on this stream.
async fn client_2(stream: DuplexStream) -> conn::http2::SendRequest<Body> {
    let io = TokioIo::new(stream);
    let (sender, conn) =
        conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(conn);
    sender
}

fn ask(path: &str) -> Request<Body> {
    Request::get(format!("http://x{path}")).body(text("").into_body()).unwrap()
}

/// A response, whole: its status, or the error on the way.
async fn whole(
    sender: &mut conn::http2::SendRequest<Body>,
    path: &str,
) -> hyper::Result<StatusCode> {
    let response = in_time(sender.send_request(ask(path))).await?;
    let status = response.status();
    in_time(response.into_body().collect()).await?;
    Ok(status)
}

async fn by_path(request: Request<Incoming>) -> Answer {
    match request.uri().path() {
        "/error" => Err("no such table".into()),
        "/panic" => panic!("index out of range"),
        "/half" => Ok(fails()),
        "/page" => Ok(panics()),
        _ => Ok(text("hello")),
    }
}

#[tokio::test(start_paused = true)]
async fn over_http2_nobody_gets_the_errors_of_a_service() {
    errors().says("Over HTTP/2, nobody gets an error when your service or body fails or panics");
    errors().says("the handler | the task of the connection ends, without a response | the stream is reset with CANCEL; the others go on");
    let (client, conn) = version_2(by_path);
    let mut sender = client_2(client).await;
    for (path, reason) in [
        ("/error", h2::Reason::INTERNAL_ERROR),
        ("/half", h2::Reason::INTERNAL_ERROR),
        ("/panic", h2::Reason::CANCEL),
        ("/page", h2::Reason::CANCEL),
    ] {
        let error = whole(&mut sender, path).await.unwrap_err();
        let error: &h2::Error = find(&error);
        assert!(error.is_remote() && error.is_reset());
        assert_eq!(error.reason(), Some(reason), "{path}");
        assert_eq!(whole(&mut sender, "/").await.unwrap(), 200, "others go on");
    }
    drop(sender);
    in_time(conn).await.expect("the task goes on").expect("and gets no error");
}

#[tokio::test(start_paused = true)]
async fn over_http1_a_panic_ends_the_task_of_the_connection() {
    errors().says("a body | the same; the client has half a response, or none | the same");
    for path in ["/panic", "/page"] {
        let (mut client, conn) = version_1(by_path);
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        client.read_to_end(&mut response).await.unwrap();
        assert!(response.is_empty());
        let error: JoinError = in_time(conn).await.unwrap_err();
        assert!(error.is_panic());
        row("a panic, over HTTP/1", "whoever awaits the task", "task …", &error);
    }
    // A body that has begun.
    let (mut client, conn) = version_1(async |_| {
        let pieces = stream::unfold(0, async |n| {
            // hyper sends the first piece.
            sleep(Duration::from_millis(n)).await;
            let piece: Result<_, BoxError> = Ok(Frame::data(Bytes::from("half")));
            (n == 0).then_some((piece, 1)).or_else(|| panic!("no template"))
        });
        Ok(Response::new(StreamBody::new(pieces).boxed_unsync()))
    });
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("\r\n\r\n4\r\nhalf\r\n"), "no last chunk: {response}");
    assert!(conn.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stopped_is_routine() {
    let task = tokio::spawn(pending::<()>());
    task.abort();
    assert_eq!(program::severity(&task.await.unwrap_err()), Count);
}

// Clients.

const REQUEST: &str = "the request";

/// A pooled client of a server that this function plays.
fn pooled<S, F>(serve: S) -> Client<impl legacy::connect::Connect + Clone, Body>
where
    S: Fn(DuplexStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let connector = tower::service_fn(move |_: Uri| {
        let (client, server) = Memory::pair();
        tokio::spawn(serve(server));
        ready(Ok::<_, io::Error>(client))
    });
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn pooled_error<S, F>(serve: S) -> legacy::Error
where
    S: Fn(DuplexStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    in_time(pooled(serve).request(ask("/"))).await.unwrap_err()
}

#[tokio::test]
async fn no_connection() {
    let what = "nothing listens, DNS fails, a certificate is bad";
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri: Uri = format!("http://{}/", nobody.local_addr().unwrap()).parse().unwrap();
    drop(nobody);
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let refused = client.get(uri).await.unwrap_err();

    let resolver = tower::service_fn(|_: Name| {
        let none = io::Error::new(io::ErrorKind::NotConnected, "no such name");
        ready(Err::<std::vec::IntoIter<std::net::SocketAddr>, _>(none))
    });
    let connector = HttpConnector::new_with_resolver(resolver);
    let client: Client<_, Body> =
        Client::builder(TokioExecutor::new()).build(connector);
    let unknown = client.request(ask("/")).await.unwrap_err();

    let connector = tower::service_fn(|_: Uri| {
        Box::pin(async { Err::<Memory, _>(untrusted().await.1) })
    });
    let client: Client<_, Body> =
        Client::builder(TokioExecutor::new()).build(connector);
    let untrusted = client.request(ask("/")).await.unwrap_err();
    for error in [refused, unknown, untrusted] {
        assert!(error.is_connect() && error.connect_info().is_none());
        row(what, REQUEST, "client error (Connect): …", &error);
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_gone() {
    let error = pooled_error(async |mut server| read_head(&mut server).await).await;
    let text = "client error (SendRequest): connection closed before message completed";
    row("the server closes before it answers", REQUEST, text, &error);
    is(&error, &["is_incomplete_message"]);

    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi";
    let client = pooled(async |mut server| {
        read_head(&mut server).await;
        server.write_all(cut).await.unwrap();
    });
    let response = client.request(ask("/")).await.unwrap();
    let error = in_time(response.into_body().collect()).await.unwrap_err();
    let text =
        "error reading a body from connection: end of file before message length reached";
    row("the server closes within the body", "the body", text, &error);

    let error = pooled_error(async |mut server| {
        read_head(&mut server).await;
        server.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.unwrap();
    });
    let error = error.await;
    let text = "client error (SendRequest): invalid HTTP version parsed";
    row("the answer is no HTTP", REQUEST, text, &error);
    is(&error, &["is_parse"]);

    let error = pooled_error(async |mut server| {
        read_head(&mut server).await;
        server.write_all(b"HTTP/1.1 abc\r\n\r\n").await.unwrap();
    });
    is(&error.await, &["is_parse", "is_parse_status"]);

    let error = timeout(Duration::ZERO, pending::<()>()).await.unwrap_err();
    row("a time limit of yours", "you", "deadline has elapsed", &error);
}

#[tokio::test]
async fn tls_that_ends_without_a_word() {
    let (connector, acceptor) = tls(&[], &[]);
    let (client, server) = duplex(64 * 1024);
    let name = "localhost".try_into().unwrap();
    let (client, server) =
        tokio::join!(connector.connect(name, client), acceptor.accept(server));
    let (mut server, io) = (server.unwrap(), TokioIo::new(client.unwrap()));
    let (mut sender, conn) = conn::http1::handshake::<_, Body>(io).await.unwrap();
    tokio::spawn(conn);
    let server = async {
        server.read_exact(&mut [0; 10]).await.unwrap();
        drop(server);
    };
    let request = sender.send_request(ask("/"));
    let (response, ()) = in_time(async { tokio::join!(request, server) }).await;
    let error = response.unwrap_err();
    let text = "connection error: peer closed connection without sending TLS close_notify: …";
    row("TLS ends without close_notify", REQUEST, text, &error);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_never_written() {
    let (client, server) = duplex(1024);
    let io = TokioIo::new(client);
    let (mut sender, conn) = conn::http1::handshake::<_, Body>(io).await.unwrap();
    drop(server);
    conn.await.ok();
    let error = sender.ready().await.unwrap_err();
    sorted(&error, "channel closed", Count);
    is(&error, &["is_closed"]);
    let error = sender.send_request(ask("/")).await.unwrap_err();
    let what = "the connection ended before the request was written";
    row(what, REQUEST, "operation was canceled: …", &error);
    is(&error, &["is_canceled"]);
}

#[tokio::test(start_paused = true)]
async fn the_task_of_a_clients_connection_is_gone() {
    let (client, mut server) = duplex(1024);
    let io = TokioIo::new(client);
    let (mut sender, conn) = conn::http1::handshake::<_, Body>(io).await.unwrap();
    let conn = tokio::spawn(conn);
    let stop = async {
        read_head(&mut server).await;
        conn.abort();
    };
    let (response, ()) = tokio::join!(sender.send_request(ask("/")), stop);
    let error = response.unwrap_err();
    let text = "dispatch task is gone: runtime dropped the dispatch task";
    row("the task of the connection is gone", REQUEST, text, &error);
    is(&error, &["is_user"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_resets_a_request() {
    let goaway = |last: u8, reason: u8| {
        frame(GOAWAY, 0, 0, &[0, 0, 0, last, 0, 0, 0, reason])
    };
    for (frames, what, text) in [
        (reset(h2::Reason::REFUSED_STREAM), GENTLE, "http2 error: …"),
        (reset(h2::Reason::CANCEL), GENTLE, "http2 error: …"),
        (goaway(0, 0), GENTLE, "http2 error: …"),
        (
            reset(h2::Reason::INTERNAL_ERROR),
            "a reset with another reason",
            "http2 error: stream error received: …",
        ),
    ] {
        let (client, mut server) = duplex(64 * 1024);
        let mut sender = client_2(client).await;
        let server = async {
            answer(&mut server, &frames).await;
            pending::<()>().await
        };
        let response = tokio::select! {
            response = sender.send_request(ask("/")) => response,
            () = server => unreachable!(),
        };
        let error = response.unwrap_err();
        row(what, REQUEST, text, &error);
        is(&error, &[]);
    }
}

const GENTLE: &str =
    "a reset with REFUSED_STREAM or CANCEL, or GOAWAY with NO_ERROR";

#[tokio::test(start_paused = true)]
async fn a_body_of_a_client_fails() {
    let (client, _server) = duplex(1024);
    let io = TokioIo::new(client);
    let (mut sender, conn) = conn::http1::handshake::<_, Body>(io).await.unwrap();
    tokio::spawn(conn);
    let upload = || Request::post("http://x/").body(fails().into_body()).unwrap();
    let error = in_time(sender.send_request(upload())).await.unwrap_err();
    let text = "error from user's Body stream: …";
    row("your body fails, over HTTP/1", REQUEST, text, &error);
    is(&error, &["is_user"]);

    let (client, mut server) = duplex(64 * 1024);
    let mut sender = client_2(client).await;
    let server = async {
        answer(&mut server, &[]).await;
        loop {
            let (kind, _, payload) = read_frame(&mut server).await.unwrap();
            if kind == RST_STREAM {
                return code(&payload);
            }
        }
    };
    let both = async { tokio::join!(sender.send_request(upload()), server) };
    let (response, sent) = in_time(both).await;
    assert_eq!(sent, u32::from(h2::Reason::INTERNAL_ERROR));
    let error = response.unwrap_err();
    let text = "http2 error: stream error sent by user: …";
    row("your body fails, over HTTP/2", REQUEST, text, &error);
    is(&error, &[]);
}

// The chain.

/// `io::Error::source` skips what the error wraps.
#[tokio::test(start_paused = true)]
async fn an_error_within_an_io_error_is_found() {
    let inner = after(async |_| Err("no such table".into()), GET).await;
    let outer = io::Error::other(inner);
    assert!(!outer.source().unwrap().is::<hyper::Error>());
    assert_eq!(program::severity(&outer), Bug);
}

#[test]
fn an_unknown_error_is_a_warning() {
    assert_eq!(program::severity(&*BoxError::from("something")), Warn);
}

#[test]
fn the_rows_about_methods_name_methods() {
    for (name, _) in METHODS {
        errors().says(name);
    }
}

// Secrets.

#[tokio::test]
async fn hypers_errors_hold_no_secret() {
    errors().says("own errors hold no header, no path and no URL, not even a password in one");
    let request = "GET /s3cret HTTP/1.1\r\nauthorization: s3cret\r\ns3cret\r\n\r\n";
    let error = after(hello, request).await;
    assert!(error.is_parse());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let uri: Uri = format!("http://user:s3cret@{address}/s3cret").parse().unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let refused = client.get(uri).await.unwrap_err();
    for error in [&error as &dyn Error, &refused] {
        let printed = format!("{error:?} {error} {:?}", error.source());
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}

#[test]
fn a_request_prints_what_it_holds() {
    errors().says("The Debug form of a request prints its headers, and a URI its password and query");
    let uri = "http://user:pass@x/?token";
    let mut request = Request::get(uri).header(AUTHORIZATION, "s3cret").body(()).unwrap();
    assert_eq!(request.uri().to_string(), uri);
    assert!(format!("{request:?}").contains("s3cret"));
    errors().says("prints Sensitive");
    request.headers_mut().get_mut(AUTHORIZATION).unwrap().set_sensitive(true);
    let printed = format!("{request:?}");
    assert!(!printed.contains("s3cret") && printed.contains("Sensitive"));
}

#[test]
fn a_line_is_one_line_and_has_an_end() {
    let most = errors().number("cuts a line after {} characters") as usize;
    assert_eq!(program::one_line("a\r\nbug: b\x1b[2J"), "a  bug: b [2J");
    assert_eq!(program::one_line(&"é".repeat(2 * most)), "é".repeat(most));
}

// The program.

/// Waits until the program has counted so many errors.
fn counted(program: &Program, count: u64) {
    wait("the count", || {
        let mut connection = program.connect();
        connection.get("/counted");
        connection.response().unwrap().text() == format!("{count}\n")
    });
}

#[test]
fn a_failure_is_a_500_and_a_line_with_its_number() {
    let program = Program::start("errors");
    let mut connection = program.connect();
    for (id, path) in [(1, "/users"), (2, "/panic")] {
        connection.get(path);
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), "HTTP/1.1 500 Internal Server Error");
        assert_eq!(answer.header("x-request-id"), Some(&*id.to_string()));
        let text = format!("500 Internal Server Error (request {id})\n");
        assert_eq!(answer.text(), text);
    }
    assert_eq!(program.line(), "bug: request 1 (GET /users): no such table: users");
    let line = until(&program, "bug: request 2 (GET /panic): task ");
    assert!(line.ends_with("panicked with message \"index out of range\""), "{line}");
    // The connection goes on.
    connection.get("/");
    assert_eq!(connection.response().unwrap().header("x-request-id"), Some("3"));
}

/// The next line that begins like this; a panic prints lines of its own before.
fn until(program: &Program, start: &str) -> String {
    loop {
        let line = program.line();
        if line.starts_with(start) {
            return line;
        }
    }
}

#[test]
fn routine_errors_are_counted_without_a_line() {
    let program = Program::start("errors");
    let mut connection = program.connect();
    connection.get("/slow");
    drop(connection);
    counted(&program, 1);
    let mut connection = program.connect();
    connection.send(POST.replace(" / ", " /upload "));
    drop(connection);
    counted(&program, 2);
    program.connect().send("GET / HT");
    counted(&program, 3);
    let mut connection = program.connect();
    connection.get("/users");
    connection.response().unwrap();
    let line = program.line();
    assert!(line.ends_with("(GET /users): no such table: users"), "{line}");
}

#[test]
fn what_a_client_sends_wrongly_is_its_fault() {
    errors().says("which chooses 400, 408 or 413");
    let program = Program::start("errors");
    let mut connection = program.connect();
    connection.send("GET / HTTP/1.1\r\ncontent-length: many\r\n\r\n");
    connection.response().unwrap();
    let text = "warn: connection from 127.0.0.1: invalid content-length parsed";
    assert_eq!(program.line(), text);

    let head = "POST /upload HTTP/1.1\r\nhost: x\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\nx\r\n");
    let long = format!(
        "{head}content-length: {}\r\n\r\n{}",
        program::MAX_BODY + 1,
        ".".repeat(program::MAX_BODY + 1)
    );
    for (request, status, line) in [
        (chunked, "400 Bad Request", "error reading a body from connection: "),
        (long, "413 Payload Too Large", "length limit exceeded"),
    ] {
        let mut connection = program.connect();
        connection.send(request);
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), format!("HTTP/1.1 {status}"));
        assert_eq!(answer.header("connection"), Some("close"));
        let id = answer.header("x-request-id").unwrap();
        let start = format!("warn: request {id} (POST /upload): {line}");
        let printed = program.line();
        assert!(printed.starts_with(&start), "{printed}");
    }
}

/// A connection of the program in memory.
fn memory() -> (DuplexStream, JoinHandle<()>, Arc<program::Log>) {
    let (client, server) = duplex(64 * 1024);
    let log = Arc::new(program::Log::default());
    let serve = program::serve(server, IpAddr::V4(Ipv4Addr::LOCALHOST), log.clone());
    (client, tokio::spawn(serve), log)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_a_408_and_routine() {
    let (mut client, _conn, log) = memory();
    client.write_all(POST.replace(" / ", " /upload ").as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(log.counted.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_ends_with_its_request() {
    let (mut client, conn, log) = memory();
    client.write_all(GET.replace(" / ", " /slow ").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    // The handler's task holds it too, and so do the service, the request and this test.
    assert_eq!(Arc::strong_count(&log), 4);
    drop(client);
    in_time(conn).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&log), 1);
    assert_eq!(log.counted.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_counted() {
    let (mut client, conn, log) = memory();
    client.write_all(GET.as_bytes()).await.unwrap();
    in_time(conn).await.unwrap();
    assert_eq!(log.counted.load(Relaxed), 1);
    drop(client);
}

#[tokio::test]
async fn a_body_that_fails_is_logged_once() {
    let program = Program::start("errors");
    let mut connection = program.connect();
    connection.get("/report");
    connection.head().unwrap();
    assert_eq!(connection.chunk().unwrap().unwrap(), b"the first half\n");
    connection.chunk().unwrap_err();
    assert_eq!(program.line(), "bug: request 1 (GET /report): the disk is gone");
    // Over HTTP/2 too.
    let stream = TcpStream::connect(program.address).await.unwrap();
    let (mut sender, conn) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(conn);
    whole(&mut sender, "/report").await.unwrap_err();
    assert_eq!(program.line(), "bug: request 2 (GET /report): the disk is gone");
    // A panic in a body: nobody awaits its task, so only the hook prints.
    errors().says("appears only as the message that the panic hook prints");
    whole(&mut sender, "/page").await.unwrap_err();
    whole(&mut sender, "/users").await.unwrap();
    let line = until(&program, "bug: ");
    assert_eq!(line, "bug: request 4 (GET /users): no such table: users");
}

#[test]
fn a_panic_in_a_body_over_http1_is_logged() {
    let program = Program::start("errors");
    let mut connection = program.connect();
    connection.get("/page");
    connection.response().unwrap_err();
    let line = until(&program, "bug: a connection: task ");
    assert!(line.ends_with("panicked with message \"no such template\""), "{line}");
}

#[test]
fn a_full_table_of_descriptors_is_survived() {
    let program = Program::start_with_descriptors("errors", 20);
    let connections: Vec<_> = (0..30).map(|_| program.connect()).collect();
    let line = "warn: accept: Too many open files (os error 24)";
    assert_eq!(program.line(), line);
    drop(connections);
    let mut connection = program.connect();
    connection.get("/");
    connection.response().unwrap();
}
