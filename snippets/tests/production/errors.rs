//! What src/production/errors.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};

use harness::{LIMIT, Program, Prose, Server, page, wait};

use super::super::client::failures::{Memory, read_head};
use super::super::client::retries::{DATA, answer, reset};
use super::super::server::auto::tls;
use super::super::server::limits::{
    END_HEADERS_AND_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, code,
    frame, malformed, read_frame, requests, slow_and_reset,
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

/// A row of the page's tables of errors: what happens, who gets the error, its text, and what the
/// program makes of it. `…` stands for the rest of a text.
#[track_caller]
fn row(what: &str, who: &str, text: &str, error: &(dyn Error + 'static)) {
    let report = program::report(error);
    match text.split_once('…') {
        Some((start, _)) => assert!(report.starts_with(start), "{report}"),
        None => assert_eq!(report, text),
    }
    let severity = format!("{:?}", program::severity(error)).to_lowercase();
    errors().says(&format!("{what} | {who} | {text} | {severity}"));
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

async fn hello(_: Request<Incoming>) -> Answer {
    Ok(text("hello"))
}

/// The error that the connection ends with after these bytes of the client, which then leaves.
async fn after<F, R>(handle: F, bytes: impl AsRef<[u8]>) -> BoxError
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let (mut client, conn) = version_1(handle);
    client.write_all(bytes.as_ref()).await.unwrap();
    let (mut reader, writer) = tokio::io::split(client);
    let read = tokio::spawn(async move {
        reader.read_to_end(&mut Vec::new()).await.ok();
        reader
    });
    sleep(Duration::from_millis(1)).await;
    let mut writer = writer;
    writer.shutdown().await.ok();
    let error = match in_time(conn).await { Err(e) => e.into(), Ok(Ok(())) => "ENDED OK".into(), Ok(Err(e)) => e.into() };
    read.await.unwrap();
    error
}

/// The error of a connection over HTTP/2 after these frames; the client waits for its end.
async fn after_frames(frames: Vec<u8>) -> BoxError {
    let (mut client, conn) = version_2(async |_| pending().await);
    client.write_all(&frames).await.unwrap();
    tokio::spawn(async move { client.read_to_end(&mut Vec::new()).await });
    match in_time(conn).await { Err(e) => e.into(), Ok(Ok(())) => "ENDED OK".into(), Ok(Err(e)) => e.into() }
}

fn begin(frames: &[u8]) -> Vec<u8> {
    [PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, &[]), frames].concat()
}

async fn in_time<F: Future>(what: F) -> F::Output {
    timeout(10 * LIMIT, what).await.expect("it ends in time")
}

// Servers: the client left.

#[tokio::test(start_paused = true)]
async fn explore() {
    let mut out = vec![];
    let mut show = |name: &str, e: &(dyn Error + 'static)| {
        out.push(format!("{name}: {} => {:?}", program::report(e), program::severity(e)));
    };
    show("head", &*after(hello, "GET / HT").await);
    show("handler", &*after(async |_| pending().await, GET).await);
    for b in ["\x16\x03\x01\x02\x00\x01", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\ncontent-length: many\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n", PREFACE, "GET / HTTP/1.1\r\nhost: x\r\na:\0\r\n\r\n"] {
        show("parse", &*after(hello, b).await);
    }
    show("svc", &*after(async |_| Err("no such table".into()), GET).await);
    show("body", &*after(async |_| Ok(fails()), GET).await);
    show("1xx", &*after(async |_| { let mut r = text(""); *r.status_mut() = StatusCode::PROCESSING; Ok(r) }, GET).await);
    if false { show("te+cl", &*after(async |_| { let mut r = text("abc"); r.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(9)); Ok(r) }, GET).await); }
    show("te", &*after(async |_| { let mut r = text("abc"); r.headers_mut().insert("transfer-encoding", HeaderValue::from_static("gzip")); Ok(r) }, GET).await);
    show("two", &*after(async |_| { let mut r = fails(); r.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(9)); r.headers_mut().append(CONTENT_LENGTH, HeaderValue::from(8)); Ok(r) }, GET).await);
    show("short", &*after(async |_| { let mut r = fails(); *r.body_mut() = StreamBody::new(stream::iter([Ok(Frame::data(Bytes::from("x")))])).boxed_unsync(); r.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(9)); Ok(r) }, GET).await);
    show("flood", &*after_frames(begin(&requests(0, 400, slow_and_reset))).await);
    show("goaway", &*after_frames(begin(&frame(GOAWAY, 0, 0, &[0,0,0,0,0,0,0,1, b'h', b'i', b'\n']))).await);
    show("goaway0", &*after_frames(begin(&[frame(HEADERS, END_HEADERS_AND_STREAM, 1, GET_2), frame(GOAWAY, 0, 0, &[0,0,0,0,0,0,0,2])].concat())).await);
    show("keepalive", &*after_frames(begin(&frame(HEADERS, END_HEADERS_AND_STREAM, 1, GET_2))).await);
    show("noh2", &*after_frames(GET.repeat(2).into()).await);

    // client, by hyper
    let (io, mut server) = duplex(1024);
    let (mut sender, conn) = conn::http1::handshake::<_, Body>(TokioIo::new(io)).await.unwrap();
    let conn = tokio::spawn(conn);
    tokio::spawn(async move { read_head(&mut server).await; sleep(Duration::from_secs(5)).await });
    let e = sender.send_request(Request::post("/").body(fails().into_body()).unwrap()).await;
    match e { Err(e) => show("own body h1", &e), Ok(_) => show("own body h1 OK", &io::Error::other("ok")) };
    if let Err(e) = conn.await.unwrap() { show("own body h1 conn", &e) };

    let (io, mut server) = duplex(64*1024);
    let (mut sender, conn) = conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(conn);
    let server = tokio::spawn(async move { answer(&mut server, &[]).await;
        loop { let f = timeout(Duration::from_secs(3), read_frame(&mut server)).await; if let Ok(Ok((k, s, p))) = f { if k == RST_STREAM { return (s, code(&p)) } } else { return (99, 99) } } });
    let e = sender.send_request(Request::post("http://x/").body(fails().into_body()).unwrap());
    match timeout(Duration::from_secs(50), e).await { Ok(Err(e)) => show("own body h2", &e), Ok(_) => show("own body h2 OK", &io::Error::other("ok")), Err(e) => show("hangs", &e) };
    show("reset seen by server", &io::Error::other(format!("{:?}", server.await.unwrap())));
    for reason in [h2::Reason::REFUSED_STREAM, h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR, h2::Reason::NO_ERROR] {
    let (io, mut server) = duplex(64*1024);
    let (mut sender, conn) = conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(conn);
    tokio::spawn(async move { answer(&mut server, &reset(reason)).await; sleep(Duration::from_secs(5)).await });
    let e = sender.send_request(Request::get("http://x/").body(text("").into_body()).unwrap()).await.unwrap_err();
    show("reset", &e);
    }
    // upload over h2 that is reset, or whose connection ends
    for (name, end) in [("cancel", frame(RST_STREAM, 0, 1, &[0,0,0,8])), ("internal", frame(RST_STREAM, 0, 1, &[0,0,0,2])), ("no error", frame(RST_STREAM, 0, 1, &[0,0,0,0])), ("goaway", frame(GOAWAY, 0, 0, &[0,0,0,0,0,0,0,2])), ("close", vec![])] {
        let (tx, mut rx) = tokio::sync::mpsc::channel(1);
        let (mut client, conn) = version_2(move |r| { let tx = tx.clone(); async move { let e = r.into_body().collect().await; tx.send(e).await.ok(); Ok(text("")) }});
        client.write_all(&begin(&[frame(HEADERS, END_HEADERS, 1, GET_2), frame(DATA, 0, 1, b"half")].concat())).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        client.write_all(&end).await.unwrap();
        if end.is_empty() { drop(client) } else { tokio::spawn(async move { client.read_to_end(&mut vec![]).await }); }
        match timeout(Duration::from_secs(100), rx.recv()).await { Ok(Some(Err(e))) => show(name, &e), Ok(o) => show(name, &io::Error::other(format!("{:?}", o.map(|r| r.is_ok())))), Err(e) => show(name, &e) };
        if let Err(e) = conn.await.unwrap() { show("  conn", &e) };
    }
    // tls
    for (n, c, s) in [("ok", &[][..], &[][..]), ("alpn", &[&b"http/1.1"[..]][..], &[&b"h2"[..]][..])] {
        let (connector, acceptor) = tls(c, s);
        let (a, b) = duplex(64*1024);
        let (c, s) = tokio::join!(connector.connect("localhost".try_into().unwrap(), a), acceptor.accept(b));
        if let Err(e) = &c { show(&format!("{n} client"), e) }
        if let Err(e) = &s { show(&format!("{n} server"), e) }
        if let (Ok(mut c), Ok(mut s)) = (c, s) { s.write_all(b"x").await.unwrap(); s.flush().await.unwrap(); drop(s); let e = c.read_to_end(&mut vec![]).await; if let Err(e) = e { show("notify", &e) } }
    }
    { let (connector, _) = tls(&[], &[]); let (_, acceptor) = tls(&[], &[]);
        let (a, b) = duplex(64*1024);
        let (c, s) = tokio::join!(connector.connect("localhost".try_into().unwrap(), a), acceptor.accept(b));
        if let Err(e) = c { show("untrusted client", &e) }
        if let Err(e) = s { show("untrusted server", &e) } }
    { let (_, acceptor) = tls(&[], &[]); let (mut a, b) = duplex(64*1024); a.write_all(GET.as_bytes()).await.unwrap();
        if let Err(e) = acceptor.accept(b).await { show("plain", &e) } }
    { let (_, acceptor) = tls(&[], &[]); let (a, b) = duplex(64*1024); drop(a);
        if let Err(e) = acceptor.accept(b).await { show("left", &e) } }
    // panics
    for (n, v2) in [("h1", false), ("h2", true)] { for path in ["handler", "body"] {
        let h = move |_: Request<Incoming>| async move { if path == "handler" { panic!("index") } Ok(panics()) };
        let (client, conn) = if v2 { version_2(h) } else { version_1(h) };
        let out = if v2 { let (mut s, c) = conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(client)).await.unwrap(); tokio::spawn(c);
            let r = s.send_request(Request::get("http://x/").body(text("").into_body()).unwrap()).await; 
            let again = s.send_request(Request::get("http://x/").body(text("").into_body()).unwrap()).await;
            match r { Err(e) => format!("head: {} again {:?}", program::report(&e), again.is_ok()), Ok(r) => { let r = r.into_body().collect().await; format!("body: {:?}", r.map(|_|()).map_err(|e| program::report(&e))) } } }
          else { let (mut s, c) = conn::http1::handshake::<_, Body>(TokioIo::new(client)).await.unwrap(); tokio::spawn(c);
            let r = s.send_request(Request::get("/").body(text("").into_body()).unwrap()).await; 
            match r { Err(e) => format!("head: {}", program::report(&e)), Ok(r) => { let r = r.into_body().collect().await; format!("body: {:?}", r.map(|_|()).map_err(|e| program::report(&e))) } } };
        show(&format!("panic {n} {path}"), &io::Error::other(out));
        match conn.await { Err(e) => show("  task", &e), Ok(Err(e)) => show("  conn", &e), Ok(Ok(())) => {} }
    }}
    panic!("\n{}", out.join("\n"));
}
