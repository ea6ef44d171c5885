//! What src/reference/errors.md promises: each error is made here, and says what the page says.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::future::{Future, pending, ready};
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use harness::{page, root};
use futures_util::stream;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{
    CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version, client, server,
};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{self, Client};
use hyper_util::client::pool::singleton::Singleton;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_rustls::HttpsConnectorBuilder;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use regex::Regex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use socket2::{Domain, Socket, Type};
use sources::{Kind, Text};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use crate::client::failures::chain;
use crate::client::https::{Identity, ca, sign};
use crate::client::retries::frame;
use crate::server::limits::{END_HEADERS_AND_STREAM, HEADERS, goaway};
use crate::server::tls::{alert, alpn, connect as connect_tls};

type BoxError = Box<dyn Error + Send + Sync>;
type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// An error that a test has made, or a panic: the heading of its entry, what is printed with its
/// chain of sources, and the methods that are true.
struct Seen {
    entry: &'static str,
    text: String,
    methods: Vec<&'static str>,
    /// What `{:?}` prints of the first `hyper::Error` in the chain, or of an error of the crate http.
    debug: Option<String>,
    /// The status that hyper answered with by itself.
    answer: Option<u16>,
}

fn seen(entry: &'static str, error: impl Into<BoxError>) -> Seen {
    let error = error.into();
    let mut methods = Vec::new();
    let mut debug = None;
    let mut next: Option<&(dyn Error + 'static)> = Some(&*error);
    // Of the first that has any.
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<legacy::Error>() {
            methods.extend(error.is_connect().then_some("is_connect"));
            break;
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            methods = true_of(error);
            debug = Some(format!("{error:?}"));
            break;
        }
        next = error.source();
    }
    Seen { entry, text: chain(&*error), methods, debug, answer: None }
}

/// The methods of `hyper::Error` that are true of this one.
fn true_of(error: &hyper::Error) -> Vec<&'static str> {
    let all = [
        ("is_parse", error.is_parse()),
        ("is_parse_too_large", error.is_parse_too_large()),
        ("is_parse_status", error.is_parse_status()),
        ("is_parse_version_h2", error.is_parse_version_h2()),
        ("is_user", error.is_user()),
        ("is_canceled", error.is_canceled()),
        ("is_closed", error.is_closed()),
        ("is_incomplete_message", error.is_incomplete_message()),
        ("is_body_write_aborted", error.is_body_write_aborted()),
        ("is_shutdown", error.is_shutdown()),
        ("is_timeout", error.is_timeout()),
    ];
    all.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
}

fn panicked(entry: &'static str, panic: Box<dyn Any + Send>) -> Seen {
    let text = match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    };
    Seen { entry, text, methods: Vec::new(), debug: None, answer: None }
}

fn caught(entry: &'static str, call: impl FnOnce()) -> Seen {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(call));
    panicked(entry, panic.expect_err(entry))
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A connection that fails where it is told to.
struct Broken {
    io: TokioIo<DuplexStream>,
    /// It fails after this many, with this error.
    reads: Option<usize>,
    error: io::ErrorKind,
    write: bool,
    shutdown: bool,
}

impl Broken {
    fn new(io: DuplexStream) -> Broken {
        let error = io::ErrorKind::ConnectionReset;
        Broken { io: TokioIo::new(io), reads: None, error, write: false, shutdown: false }
    }
}

impl Read for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.reads {
            Some(0) => return Poll::Ready(Err(self.error.into())),
            Some(reads) => *reads -= 1,
            None => {}
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Broken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.write {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
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
        if self.shutdown {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Connection for Broken {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

// Servers.

fn hello() -> Response<BoxBody> {
    Response::new(Full::new(Bytes::from("hello")).map_err(Into::into).boxed_unsync())
}

/// How a connection ends on which a client sends these bytes, and what the client reads. If `ends`,
/// it sends no more; else it waits for an answer.
async fn served<S, F, E>(
    bytes: &[u8],
    ends: bool,
    service: S,
) -> (Result<(), hyper::Error>, String)
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<BoxBody>, E>>,
    E: Into<BoxError>,
{
    let (mut peer, io) = duplex(1 << 20);
    let connection = server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service_fn(service));
    let peer = async {
        peer.write_all(bytes).await.unwrap();
        if ends {
            peer.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    tokio::join!(connection, peer)
}

/// The error, with the status of the answer if that is one of hyper's own.
fn with_answer(
    entry: &'static str,
    (result, answer): (Result<(), hyper::Error>, String),
) -> Seen {
    let status = answer.strip_prefix("HTTP/1.1 ").map(|rest| rest[..3].parse().unwrap());
    let answer = status.filter(|status| *status >= 400);
    Seen { answer, ..seen(entry, result.expect_err(entry)) }
}

/// The error of a connection on which a client sends these bytes, and then no more.
async fn bytes(entry: &'static str, bytes: impl AsRef<[u8]>) -> Seen {
    let service = |request: Request<Incoming>| async move {
        request.into_body().collect().await?;
        Ok::<_, hyper::Error>(hello())
    };
    with_answer(entry, served(bytes.as_ref(), true, service).await)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// The error of a connection whose service returns this response.
async fn response(
    entry: &'static str,
    response: impl Fn() -> Response<BoxBody>,
) -> Seen {
    let service = |_| ready(Ok::<_, Infallible>(response()));
    with_answer(entry, served(GET, false, service).await)
}

/// The error that a service gets that reads this body; here of the chunks of a body.
async fn body(entry: &'static str, headers: &str, bytes: &[u8]) -> Seen {
    let error = Mutex::new(None);
    let service = |request: Request<Incoming>| {
        let error = &error;
        async move {
            let result = request.into_body().collect().await;
            *error.lock().unwrap() = Some(result.expect_err(entry));
            Ok::<_, Infallible>(hello())
        }
    };
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n");
    served(&[head.as_bytes(), bytes].concat(), true, service).await.0.ok();
    seen(entry, error.into_inner().unwrap().expect(entry))
}

async fn chunks(entry: &'static str, bytes: &[u8]) -> Seen {
    body(entry, "transfer-encoding: chunked", bytes).await
}

async fn servers(all: &mut Vec<Seen>) {
    all.push(
        bytes("invalid HTTP method parsed", "\x16\x03\x01\x02\x00\x01\r\n\r\n").await,
    );
    all.push(bytes("invalid HTTP version parsed", "GET / HTTP/3.0\r\n\r\n").await);
    all.push(
        bytes(
            "invalid HTTP version parsed (found HTTP2 preface)",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
        .await,
    );
    all.push(bytes("invalid URI", "GET http:// HTTP/1.1\r\n\r\n").await);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 16));
    all.push(bytes("URI too long", long).await);
    all.push(
        bytes("invalid HTTP header parsed", "GET / HTTP/1.1\r\na b: c\r\n\r\n").await,
    );
    all.push(
        bytes(
            "invalid content-length parsed",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        )
        .await,
    );
    all.push(
        bytes(
            "invalid transfer-encoding parsed",
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        )
        .await,
    );
    all.push(
        bytes(
            "unexpected transfer-encoding parsed",
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await,
    );
    let large = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(1 << 19));
    all.push(bytes("message head is too large", large).await);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    all.push(bytes("message head is too large", many).await);
    all.push(bytes("connection closed before message completed", "GET / HT").await);

    all.push(
        response("response has 1xx status code, not supported by server", || {
            let mut response = hello();
            *response.status_mut() = StatusCode::CONTINUE;
            response
        })
        .await,
    );
    all.push(
        response("user sent unexpected header", || {
            let mut response = Response::new(unknown_length(&["hello"]));
            response.headers_mut().insert(CONTENT_LENGTH, "five".parse().unwrap());
            response
        })
        .await,
    );
    all.push(
        response("user sent unexpected header", || {
            let mut response = Response::new(unknown_length(&["hello"]));
            response.headers_mut().append(CONTENT_LENGTH, "5".parse().unwrap());
            response.headers_mut().append(CONTENT_LENGTH, "7".parse().unwrap());
            response
        })
        .await,
    );
    all.push(
        response("user sent unexpected header", || {
            let mut response = Response::new(unknown_length(&["hello"]));
            response.headers_mut().insert(CONTENT_LENGTH, "5".parse().unwrap());
            response.headers_mut().insert(TRANSFER_ENCODING, "chunked".parse().unwrap());
            response
        })
        .await,
    );
    all.push(
        response("error from user's Body stream: …", || {
            let error: BoxError = "the disk is gone".into();
            let frames = [Ok(Frame::data(Bytes::from("he"))), Err(error)];
            Response::new(BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames))))
        })
        .await,
    );
    all.push(
        response("user body write aborted: early end, expected … more bytes", || {
            let mut response = Response::new(unknown_length(&["hello"]));
            response.headers_mut().insert(CONTENT_LENGTH, "7".parse().unwrap());
            response
        })
        .await,
    );
    let service = |_| ready(Err::<Response<BoxBody>, _>("no database"));
    all.push(seen(
        "error from user's Service: …",
        served(GET, false, service).await.0.unwrap_err(),
    ));

    all.push(
        body(
            "error reading a body from connection: end of file before message length reached",
            "content-length: 9",
            b"hi",
        )
        .await,
    );
    let (chunk, limit, early) = (
        "error reading a body from connection: Invalid chunk …",
        "error reading a body from connection: chunk … over limit",
        "error reading a body from connection: unexpected EOF during chunk size line",
    );
    for (entry, bytes) in [
        (early, "2\r\nhi\r\n"),
        (chunk, "\r\n"),
        (chunk, "2h\r\n"),
        (chunk, "2 x\r\n"),
        (chunk, "2;a\nb\r\n"),
        (chunk, "2\rx"),
        (chunk, "2\r\nhill\r\n"),
        (chunk, "2\r\nhi\rx"),
        (chunk, "0\r\n\rx"),
        (chunk, "fffffffffffffffff\r\n"),
        (limit, "0\r\na: b\rx"),
        (limit, "0\r\na\r\n\r\n"),
    ] {
        all.push(chunks(entry, bytes.as_bytes()).await);
    }
    let long = "b".repeat(17_000);
    for bytes in [
        format!("2;{long}\r\nhi\r\n"),
        format!("0\r\n{}\r\n", "a: b\r\n".repeat(1025)),
        format!("0\r\na: {long}\r\n\r\n"),
    ] {
        all.push(chunks(limit, bytes.as_bytes()).await);
    }

    // A response that cannot be written, while the body of the request is on its way.
    let (mut peer, io) = duplex(1024);
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhi";
    peer.write_all(head).await.unwrap();
    let mut io = Broken::new(io);
    io.write = true;
    let taken = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        *taken.lock().unwrap() = Some(request.into_body());
        ready(Ok::<_, Infallible>(hello()))
    });
    let result = server::conn::http1::Builder::new().serve_connection(io, service).await;
    result.expect_err("it cannot be written");
    let body = taken.into_inner().unwrap().unwrap();
    all.push(seen(
        "error reading a body from connection: connection error",
        body.collect().await.unwrap_err(),
    ));

    // Limits of time.
    let silent = async {
        let (_peer, io) = duplex(1024);
        let service = service_fn(|_| ready(Ok::<_, Infallible>(hello())));
        server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(seconds(30))
            .serve_connection(TokioIo::new(io), service)
            .await
    };
    all.push(seen("read header from client timeout", silent.await.unwrap_err()));

    // What the connection itself does.
    let failing = |bytes: &'static [u8], change: fn(&mut Broken)| async move {
        let (mut peer, io) = duplex(1 << 20);
        peer.write_all(bytes).await.unwrap();
        let mut io = Broken::new(io);
        change(&mut io);
        let service = service_fn(|_| ready(Ok::<_, Infallible>(hello())));
        let result =
            server::conn::http1::Builder::new().serve_connection(io, service).await;
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        (result.expect_err("the connection is broken"), answer)
    };
    const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    all.push(seen(
        "connection error: …",
        failing(b"GET / HT", |io| io.reads = Some(1)).await.0,
    ));
    all.push(seen(
        "error writing a body to connection: …",
        failing(CLOSE, |io| io.write = true).await.0,
    ));
    let (error, answer) = failing(CLOSE, |io| io.shutdown = true).await;
    all.push(seen("error shutting down connection: …", error));
    assert!(answer.ends_with(b"hello"), "all was written");
}

/// A body of these pieces that does not know its length.
fn unknown_length(pieces: &[&'static str]) -> BoxBody {
    let frames: Vec<_> =
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(*piece)))).collect();
    BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames)))
}

// Clients.

type Sender = client::conn::http1::SendRequest<Empty<Bytes>>;
type Peer = DuplexStream;

async fn connect()
-> (Sender, tokio::task::JoinHandle<Result<(), hyper::Error>>, Peer) {
    let (io, peer) = duplex(1 << 20);
    let (sender, connection) =
        client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    (sender, tokio::spawn(connection), peer)
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("/").header("host", "a").body(Empty::new()).unwrap()
}

async fn head(peer: &mut Peer) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await.unwrap());
    }
}

/// The error of a request that a server answers with these bytes, and then closes.
async fn answered(entry: &'static str, bytes: &[u8]) -> Seen {
    let (mut sender, _connection, mut peer) = connect().await;
    let response = async {
        let response = sender.send_request(get()).await?;
        response.into_body().collect().await
    };
    let peer = async {
        head(&mut peer).await;
        peer.write_all(bytes).await.unwrap();
        drop(peer);
    };
    seen(entry, tokio::join!(response, peer).0.expect_err(entry))
}

async fn clients(all: &mut Vec<Seen>) {
    for line in ["HTTP/1.1 2x0 OK", "HTTP/1.1 200 O\x01K"] {
        let response = format!("{line}\r\n\r\n");
        let status = "invalid HTTP status-code parsed";
        all.push(answered(status, response.as_bytes()).await);
    }
    all.push(answered("invalid HTTP version parsed", b"SSH-2.0-OpenSSH_9.9\r\n").await);
    all.push(answered("connection closed before message completed", b"").await);
    all.push(answered("invalid HTTP header parsed", b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n").await);
    all.push(answered("invalid content-length parsed", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").await);
    let (io, mut peer) = duplex(1024);
    let (mut sender, connection) = client::conn::http1::Builder::new()
        .ignore_invalid_headers_in_responses(true)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    let answer = async {
        head(&mut peer).await;
        peer.write_all(b"HTTP/1.1 200 OK\r\na b: c\r\nd: e\r\n\r\n").await.unwrap();
    };
    let response = tokio::join!(sender.send_request(get()), answer).0.unwrap();
    assert_eq!(response.headers().len(), 1, "the invalid line is skipped");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    all.push(answered("message head is too large", many.as_bytes()).await);
    all.push(
        answered(
            "error reading a body from connection: end of file before message length reached",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
        )
        .await,
    );

    let (_sender, connection, mut peer) = connect().await;
    peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    all.push(seen(
        "received unexpected message from connection",
        connection.await.unwrap().unwrap_err(),
    ));

    let (mut sender, connection, peer) = connect().await;
    drop(peer);
    // It has never had a request.
    all.push(seen(
        "connection closed before message completed",
        connection.await.unwrap().unwrap_err(),
    ));
    all.push(seen("channel closed", sender.ready().await.unwrap_err()));
    all.push(seen(
        "operation was canceled: connection was not ready",
        sender.send_request(get()).await.unwrap_err(),
    ));

    // It is in the queue when the connection ends.
    let (io, peer) = duplex(1024);
    let (mut sender, connection) =
        client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(io)).await.unwrap();
    let request = sender.send_request(get());
    drop(peer);
    let (result, request) = tokio::join!(connection, request);
    result.unwrap();
    all.push(seen(
        "operation was canceled: connection closed before message completed",
        request.unwrap_err(),
    ));

    // The connection is dropped, or panics, while its request is under way.
    let (mut sender, connection, mut peer) = connect().await;
    let request = sender.send_request(get());
    let stop = async {
        head(&mut peer).await;
        connection.abort();
    };
    all.push(seen(
        "dispatch task is gone: runtime dropped the dispatch task",
        tokio::join!(request, stop).0.unwrap_err(),
    ));
    let (mut sender, connection, _peer) = connect().await;
    let mut request = get();
    *request.version_mut() = Version::HTTP_3;
    let error = sender.send_request(request).await.unwrap_err();
    all.push(seen("dispatch task is gone: user code panicked", error));
    let panic = connection.await.unwrap_err().into_panic();
    all.push(panicked("unexpected request version: …", panic));
}

// Upgrades, and what knows both versions.

async fn upgrades(all: &mut Vec<Seen>) {
    let error = hyper::upgrade::on(Request::new(())).await.unwrap_err();
    all.push(seen("no upgrade available", error));

    let (manual, lost) = (
        "upgrade expected but low level API in use",
        "operation was canceled: upgrade expected but not completed",
    );
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    for (entry, ends) in [(manual, false), (lost, true)] {
        let on = Mutex::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            *on.lock().unwrap() = Some(hyper::upgrade::on(request));
            let mut response = hello();
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(UPGRADE, "chat".parse().unwrap());
            async move {
                // The connection is dropped meanwhile.
                if ends {
                    pending::<()>().await;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let (mut peer, io) = duplex(1024);
        peer.write_all(ask).await.unwrap();
        let connection =
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
        if ends {
            assert!(connection.with_upgrades().now_or_never().is_none());
        } else {
            connection.await.unwrap();
        }
        let on = on.lock().unwrap().take().unwrap();
        all.push(seen(entry, on.await.unwrap_err()));
    }

    let (_peer, io) = duplex(1024);
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = service_fn(|_| ready(Ok::<_, Infallible>(hello())));
    let connection = builder.serve_connection(TokioIo::new(io), service);
    let graceful = GracefulShutdown::new();
    let connection = graceful.watch(connection);
    all.push(seen("Cancelled", tokio::join!(connection, graceful.shutdown()).0.unwrap_err()));
}

// HTTP/2.

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

type Http2 = client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2() -> (Http2, tokio::task::JoinHandle<Result<(), hyper::Error>>, Peer) {
    let (io, mut peer) = duplex(1 << 20);
    peer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let (sender, connection) =
        client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
    (sender, tokio::spawn(connection), peer)
}

/// The error of a request over HTTP/2 that is answered with this frame.
async fn framed(entry: &'static str, bytes: Vec<u8>) -> Seen {
    let (mut sender, _connection, mut peer) = http2().await;
    let request = Request::get("http://a/").body(Full::default()).unwrap();
    let answer = async {
        peer.read_exact(&mut [0; 60]).await.unwrap();
        peer.write_all(&bytes).await.unwrap();
    };
    let response = async { sender.send_request(request).await };
    seen(entry, tokio::join!(response, answer).0.expect_err(entry))
}

async fn second_version(all: &mut Vec<Seen>) {
    let reset = |reason: u32| frame(RST_STREAM, 0, 1, &reason.to_be_bytes());
    let goaway = |reason: u32| {
        frame(GOAWAY, 0, 0, &[0_u32.to_be_bytes(), reason.to_be_bytes()].concat())
    };
    all.push(framed("http2 error: stream error received: refused stream before processing any application logic", reset(7)).await);
    all.push(framed("http2 error: stream error received: unexpected internal error encountered", reset(2)).await);
    all.push(
        framed("http2 error: stream error received: …", reset(8))
            .await,
    );
    all.push(framed("http2 error: stream error received: …", reset(1)).await);
    all.push(framed("http2 error: stream error received: …", reset(13)).await);
    all.push(
        framed(
            "http2 error: connection error received: not a result of an error",
            goaway(0),
        )
        .await,
    );
    all.push(
        framed(
            "http2 error: connection error received: detected excessive load generating behavior",
            goaway(11),
        )
        .await,
    );

    let (sent, received) = large_headers(|_| {}).await;
    assert!(sent > kib() * 1024, "{sent}");
    all.push(seen(
        "http2 error: stream error detected: unspecific protocol error detected",
        received.unwrap_err(),
    ));

    let (mut sender, _connection, _peer) = http2().await;
    let request = Request::connect("a:80").body(Full::from("hello")).unwrap();
    all.push(seen(
        "user sent CONNECT request with non-zero body",
        sender.send_request(request).await.unwrap_err(),
    ));

    // A client of HTTP/1 at a server of HTTP/2, and one of HTTP/2 at a server of HTTP/1.
    let (mut peer, io) = duplex(1 << 20);
    peer.write_all(GET).await.unwrap();
    let service = service_fn(|_| ready(Ok::<_, Infallible>(hello())));
    let result = server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), service)
        .await;
    all.push(seen(
        "http2 error: connection error detected: unspecific protocol error detected",
        result.unwrap_err(),
    ));
    let (io, mut peer) = duplex(1 << 20);
    let (mut sender, connection) =
        client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
    peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let request = Request::get("http://a/").body(Full::<Bytes>::default()).unwrap();
    let connection = tokio::spawn(connection);
    all.push(seen(
        "operation was canceled: connection closed",
        sender.send_request(request).await.unwrap_err(),
    ));
    all.push(seen(
        "http2 error: connection error detected: frame with invalid size",
        connection.await.unwrap().unwrap_err(),
    ));

    // A server that has gone without a word.
    let (io, mut peer) = duplex(1 << 20);
    peer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let (mut sender, connection) =
        client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(seconds(20))
            .keep_alive_timeout(seconds(5))
            .handshake(TokioIo::new(io))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/").body(Full::<Bytes>::default()).unwrap();
    all.push(seen(
        "http2 error: keep-alive timed out: operation timed out",
        sender.send_request(request).await.unwrap_err(),
    ));
}

fn kib() -> usize {
    page("reference/errors").number("larger than your limit of {} KiB") as usize
}

/// The answer to a client over HTTP/2 whose server sends a header of one KiB more than the limit.
async fn large_headers(
    change: fn(&mut client::conn::http2::Builder<TokioExecutor>),
) -> (usize, hyper::Result<Response<Incoming>>) {
    let (io, peer) = duplex(1 << 20);
    let value = "x".repeat((kib() + 1) * 1024);
    let sent = value.len();
    let service = service_fn(move |_| {
        let response = Response::builder().header("a", &value).body(Full::<Bytes>::default());
        ready(Ok::<_, Infallible>(response.unwrap()))
    });
    let server = server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(server.serve_connection(TokioIo::new(peer), service));
    let mut builder = client::conn::http2::Builder::new(TokioExecutor::new());
    change(&mut builder);
    let (mut sender, connection) =
        builder.handshake::<_, Empty<Bytes>>(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a.test/").body(Empty::new()).unwrap();
    (sent, sender.send_request(request).await)
}

// The client of hyper-util, and its connectors.

/// A connector that gives this away once.
fn once<T: Send + 'static>(
    io: T,
) -> tower::util::BoxCloneSyncService<Uri, T, io::Error> {
    let io = Arc::new(Mutex::new(Some(io)));
    tower::util::BoxCloneSyncService::new(tower::service_fn(move |_: Uri| {
        ready(Ok(io.lock().unwrap().take().expect("one connection")))
    }))
}

async fn pooled(all: &mut Vec<Seen>) {
    let get =
        |url: &str| Request::get(url).body(Empty::<Bytes>::new()).unwrap();
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    all.push(seen(
        "client error (UserAbsoluteUriRequired)",
        client.request(get("/path")).await.unwrap_err(),
    ));
    let mut request = Request::connect("a.test:443").body(Empty::new()).unwrap();
    *request.version_mut() = Version::HTTP_10;
    all.push(seen(
        "client error (UserUnsupportedRequestMethod)",
        client.request(request).await.unwrap_err(),
    ));
    let mut request = get("http://a.test/");
    *request.version_mut() = Version::HTTP_3;
    all.push(seen(
        "client error (UserUnsupportedVersion)",
        client.request(request).await.unwrap_err(),
    ));

    let (io, _peer) = duplex(1024);
    let client = Client::builder(TokioExecutor::new()).build(once(Broken::new(io)));
    let mut request = get("http://a.test/");
    *request.version_mut() = Version::HTTP_2;
    all.push(seen(
        "client error (UserUnsupportedVersion)",
        client.request(request).await.unwrap_err(),
    ));

    let (io, mut peer) = duplex(1024);
    let client = Client::builder(TokioExecutor::new()).build(once(Broken::new(io)));
    let peer = async {
        head(&mut peer).await;
        drop(peer);
    };
    let (result, ()) = tokio::join!(client.request(get("http://a.test/")), peer);
    all.push(seen(
        "client error (SendRequest): …",
        result.unwrap_err(),
    ));

    let (io, peer) = duplex(1024);
    let client = Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .build(once(Broken::new(io)));
    drop(peer);
    let error = client.request(get("http://a.test/")).await.unwrap_err();
    all.push(seen("client error (SendRequest): …", error));

    let (io, mut peer) = duplex(1024);
    let client = Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .build(once(Broken::new(io)));
    let answer = async {
        head(&mut peer).await;
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    };
    let first = client.request(get("http://a.test/"));
    tokio::join!(first, answer).0.unwrap().into_body().collect().await.unwrap();
    tokio::task::yield_now().await;
    drop(peer);
    all.push(seen(
        "client error (Canceled): …",
        client.request(get("http://a.test/")).await.unwrap_err(),
    ));

    // Two requests over one connection of HTTP/2, which is not made.
    let failing = tower::util::BoxCloneSyncService::new(tower::service_fn(|_: Uri| async {
        tokio::task::yield_now().await;
        Err::<Broken, _>(io::Error::other("down"))
    }));
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build(failing);
    let (first, second) = tokio::join!(
        client.request(get("http://a.test/")),
        client.request(get("http://a.test/"))
    );
    all.push(seen("client error (Connect): …", first.unwrap_err()));
    all.push(seen("client error (Connect): request was canceled", second.unwrap_err()));

    // HttpConnector. Each error is that of a request: the connector alone prints the second half.
    let resolver = |addresses: &'static [SocketAddr]| {
        tower::service_fn(move |name: Name| {
            ready(match name.as_str() {
                "unknown.test" => Err(io::Error::other("no such name")),
                _ => Ok(addresses.iter().copied()),
            })
        })
    };
    let here: &'static [SocketAddr] = std::slice::from_ref(&CLOSED.0);
    let connector =
        |change: fn(&mut HttpConnector<_>), to| {
            let mut connector = HttpConnector::new_with_resolver(resolver(to));
            change(&mut connector);
            Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector)
        };
    for (entry, change, to, url) in [
        (
            "tcp connect error: Connection refused (os error 111)",
            (|_| {}) as fn(&mut HttpConnector<_>),
            here,
            "http://a.test/",
        ),
        (
            "tcp connect error: Network unreachable",
            |_| {},
            &[],
            "http://a.test/",
        ),
        ("dns error: …", |_| {}, here, "http://unknown.test/"),
        (
            "invalid URL, scheme is not http",
            |_| {},
            here,
            "https://a.test/",
        ),
        (
            "tcp bind local error: …",
            |connector| connector.set_local_address(Some([192, 0, 2, 1].into())),
            here,
            "http://a.test/",
        ),
        (
            "tcp bind interface error: …",
            |connector| {
                connector.set_interface("nothing0");
            },
            here,
            "http://a.test/",
        ),
    ] {
        let error = connector(change, to).request(get(url)).await.expect_err(entry);
        let error = seen(entry, error);
        assert_eq!(error.methods, ["is_connect"], "{}", error.text);
        all.push(Seen { methods: Vec::new(), ..error });
    }
    let error = connector(|_| {}, here).request(get("http://a.test/")).await;
    all.push(seen("client error (Connect): …", error.unwrap_err()));
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let error = connector.call(Uri::from_static("/path")).await.unwrap_err();
    all.push(seen("invalid URL, scheme is missing", error));

    let failing = tower::service_fn(|()| ready(Err::<(), _>(io::Error::other("down"))));
    let error = Singleton::new(failing).call(()).await.err().unwrap();
    all.push(seen("singleton connection error: …", error));
}

/// A port on which nobody listens: it is bound, so that nobody else gets it.
static CLOSED: LazyLock<(SocketAddr, Socket)> = LazyLock::new(|| {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
});

/// The error of a tunnel whose proxy answers with these bytes, and closes.
async fn tunnel(entry: &'static str, answer: &[u8]) -> Seen {
    let (io, mut peer) = duplex(1 << 20);
    let mut tunnel =
        Tunnel::new(Uri::from_static("http://proxy.test"), once(TokioIo::new(io)));
    let uri = Uri::from_static("https://a.test/");
    let peer = async {
        head(&mut peer).await;
        peer.write_all(answer).await.unwrap();
        drop(peer);
    };
    seen(entry, tokio::join!(tunnel.call(uri), peer).0.expect_err(entry))
}

/// What a SOCKS proxy gets that answers with these bytes, and closes.
fn answering(answers: &'static [u8]) -> TokioIo<DuplexStream> {
    let (io, mut peer) = duplex(1 << 20);
    tokio::spawn(async move {
        peer.write_all(answers).await.unwrap();
        peer.shutdown().await.unwrap();
        peer.read_to_end(&mut Vec::new()).await.unwrap();
    });
    TokioIo::new(io)
}

async fn socks4(entry: &'static str, url: &str, answer: &'static [u8]) -> Seen {
    let connector = once(answering(answer));
    let mut socks = SocksV4::new(Uri::from_static("http://proxy.test"), connector);
    seen(entry, socks.call(url.parse().unwrap()).await.map(drop).expect_err(entry))
}

async fn socks5(entry: &'static str, url: &str, answer: &'static [u8]) -> Seen {
    let connector = once(answering(answer));
    let mut socks = SocksV5::new(Uri::from_static("http://proxy.test"), connector)
        .with_auth("user".into(), "password".into());
    seen(entry, socks.call(url.parse().unwrap()).await.map(drop).expect_err(entry))
}

async fn proxies(all: &mut Vec<Seen>) {
    all.push(
        tunnel(
            "tunnel error: proxy authorization required",
            b"HTTP/1.1 407 Authenticate\r\n\r\n",
        )
        .await,
    );
    all.push(
        tunnel("tunnel error: unsuccessful", b"HTTP/1.1 403 Forbidden\r\n\r\n").await,
    );
    all.push(tunnel("tunnel error: unexpected end of file", b"HTTP/1.1 2").await);
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(9000));
    all.push(
        tunnel("tunnel error: proxy response headers too long", long.as_bytes()).await,
    );
    let refused = || {
        tower::service_fn(|_: Uri| {
            let error = io::Error::from(io::ErrorKind::ConnectionRefused);
            ready(Err::<TokioIo<DuplexStream>, _>(error))
        })
    };
    let to = |uri| Uri::from_static(uri);
    let mut unreachable = Tunnel::new(to("http://proxy.test"), refused());
    all.push(seen(
        "tunnel error: failed to create underlying connection: …",
        unreachable.call(to("https://a.test/")).await.err().unwrap(),
    ));
    let (io, _peer) = duplex(1024);
    let mut no_host = Tunnel::new(to("http://proxy.test"), once(TokioIo::new(io)));
    all.push(seen(
        "tunnel error: missing destination host",
        no_host.call(to("/path")).await.err().unwrap(),
    ));
    let (io, _peer) = duplex(1024);
    let mut io = Broken::new(io);
    io.reads = Some(0);
    let mut broken = Tunnel::new(to("http://proxy.test"), once(io));
    all.push(seen(
        "tunnel error: io error establishing tunnel: …",
        broken.call(to("https://a.test/")).await.err().unwrap(),
    ));

    let mut unreachable = SocksV5::new(to("http://proxy.test"), refused());
    all.push(seen(
        "SOCKS error: failed to create underlying connection",
        unreachable.call(to("https://a.test/")).await.err().unwrap(),
    ));
    const URL: &str = "https://a.test/";
    let long: &str = &format!("https://{}.test/", "a".repeat(255));
    all.push(socks5("SOCKS error: io error during SOCKS handshake", URL, b"").await);
    all.push(socks5("SOCKS error: missing destination host", "/path", b"").await);
    all.push(
        socks5("SOCKS error: failed parsing server response", URL, b"HTTP/1.1 400").await,
    );
    all.push(
        socks5("SOCKS error: host address is more than 255 characters", long, b"")
            .await,
    );
    all.push(
        socks5(
            "SOCKS error: server does not support user/pass authentication",
            URL,
            &[5, 0xff],
        )
        .await,
    );
    all.push(
        socks5(
            "SOCKS error: server implements authentication incorrectly",
            URL,
            &[5, 0],
        )
        .await,
    );
    all.push(
        socks5("SOCKS error: credentials not accepted", URL, &[5, 2, 1, 1]).await,
    );
    for (answer, text) in [
        (&[5, 2, 1, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (&[5, 2, 1, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (&[5, 2, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (&[5, 2, 1, 0, 5, 4, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (&[5, 2, 1, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: connection refused"),
        (&[5, 2, 1, 0, 5, 6, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (&[5, 2, 1, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (&[5, 2, 1, 0, 5, 8, 0, 1, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
    ] {
        all.push(socks5(text, URL, answer).await);
    }
    all.push(socks4("SOCKS error: IPV6 is not supported", "https://[::1]/", b"").await);
    for (answer, text) in [
        (&[0, 91, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (&[0, 92, 0, 0, 0, 0, 0, 0], "SOCKS error: …"),
        (
            &[0, 93, 0, 0, 0, 0, 0, 0],
            "SOCKS error: …",
        ),
    ] {
        all.push(socks4(text, URL, answer).await);
    }
    let resolved = SocksV4::new(to("http://proxy.test"), once(answering(b"")));
    let error = resolved.local_dns(true).call(to("https://a.invalid/")).await;
    all.push(seen("SOCKS error: io error during SOCKS handshake", error.err().unwrap()));
}

// TLS.

/// A server that shows this certificate.
fn shown(by: Identity) -> ServerConfig {
    server_for(rustls::ALL_VERSIONS, None, by)
}

fn server_for(
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<RootCertStore>,
    Identity(chain, key): Identity,
) -> ServerConfig {
    let config = ServerConfig::builder_with_protocol_versions(versions);
    let config = match clients {
        Some(roots) => config.with_client_cert_verifier(
            WebPkiClientVerifier::builder(roots.into()).build().unwrap(),
        ),
        None => config.with_no_client_auth(),
    };
    let chain = chain.iter().map(|it| it.der().clone()).collect();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    config.with_single_cert(chain, key).unwrap()
}

fn trusting<'a>(
    cas: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone()).unwrap();
    }
    roots
}

fn client_for(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

/// The errors of a handshake at the server and at the client: of a client that has ended its own,
/// what it reads then.
async fn handshake(
    server: ServerConfig,
    client: ClientConfig,
    name: &str,
) -> (Option<io::Error>, Option<io::Error>) {
    let (io, peer) = duplex(1 << 20);
    let server = async {
        let accepted = TlsAcceptor::from(Arc::new(server)).accept(peer).await;
        match accepted {
            // A client that refuses the server says so after its own end.
            Ok(mut stream) => stream.read_u8().await.err(),
            Err(error) => Some(error),
        }
    };
    let client = async {
        match connect_tls(io, client, name).await {
            Ok(mut stream) => {
                stream.shutdown().await.unwrap();
                stream.read_u8().await.err()
            }
            Err(error) => Some(error),
        }
    };
    tokio::join!(server, client)
}

async fn tls(all: &mut Vec<Seen>) {
    let ours = ca("ours");
    let known = || client_for(trusting([ours.der()]));
    let good = || sign(&ours, &["a.test"], |_| {});
    let mut refuses = async |client, server, seen_by_server: Option<_>, entry| {
        let (server, client) =
            handshake(shown(server), client, "a.test").await;
        all.push(seen(entry, client.expect(entry)));
        if let Some(entry) = seen_by_server {
            all.push(seen(entry, server.expect(entry)));
        }
    };

    // What a client finds wrong, and what the server gets.
    refuses(
        client_for(trusting([ca("other").der()])),
        good(),
        Some("received fatal alert: UnknownCA"),
        "invalid peer certificate: UnknownIssuer",
    )
    .await;
    refuses(
        client_for(trusting([ca("ours").der()])),
        good(),
        None,
        "invalid peer certificate: BadSignature",
    )
    .await;
    let not_for_name = "invalid peer certificate: certificate not valid for name …";
    refuses(
        known(),
        sign(&ours, &["b.test"], |_| {}),
        Some("received fatal alert: BadCertificate"),
        not_for_name,
    )
    .await;
    let common_name = sign(&ours, &[], |cert| {
        cert.distinguished_name.push(DnType::CommonName, "a.test");
    });
    refuses(known(), common_name, None, not_for_name).await;
    let day = rcgen::date_time_ymd;
    refuses(
        known(),
        sign(&ours, &["a.test"], |cert| cert.not_after = day(2000, 1, 1)),
        Some("received fatal alert: CertificateExpired"),
        "invalid peer certificate: certificate expired: …",
    )
    .await;
    refuses(
        known(),
        sign(&ours, &["a.test"], |cert| cert.not_before = day(2999, 1, 1)),
        Some("received fatal alert: CertificateExpired"),
        "invalid peer certificate: certificate not valid yet: …",
    )
    .await;
    refuses(
        known(),
        sign(&ours, &["a.test"], |cert| {
            cert.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        None,
        "invalid peer certificate: certificate does not allow extended key usage for …",
    )
    .await;
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let itself = params.self_signed(&key).unwrap();
    refuses(
        client_for(trusting([itself.der()])),
        Identity(vec![itself], key),
        Some("received fatal alert: CertificateUnknown"),
        "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
    )
    .await;

    // What a server finds wrong, and what the client gets.
    let strict = |versions: &[&'static SupportedProtocolVersion]| server_for(versions, Some(trusting([ours.der()])), good());
    for versions in [&[&TLS12], &[&TLS13]] {
        let (server, client) = handshake(strict(versions), known(), "a.test").await;
        all.push(seen("peer sent no certificates", server.unwrap()));
        all.push(seen("received fatal alert: CertificateRequired", client.unwrap()));
    }
    let stranger = |Identity(chain, key): Identity| {
        let chain = vec![chain[0].der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        ClientConfig::builder()
            .with_root_certificates(trusting([ours.der()]))
            .with_client_auth_cert(chain, key)
            .unwrap()
    };
    let alice = stranger(sign(&ca("other"), &["alice"], |_| {}));
    let (server, client) =
        handshake(strict(rustls::ALL_VERSIONS), alice, "a.test").await;
    all.push(seen("invalid peer certificate: UnknownIssuer", server.unwrap()));
    all.push(seen("received fatal alert: UnknownCA", client.unwrap()));

    let versions = |versions: &[&'static SupportedProtocolVersion]| {
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(trusting([ours.der()]))
            .with_no_client_auth()
    };
    let only = |version| server_for(&[version], None, good());
    assert_eq!(rustls::ALL_VERSIONS.len(), 2, "the entry says that there is nothing older");
    for (offered, accepted) in [(&TLS12, &TLS13), (&TLS13, &TLS12)] {
        let (server, client) =
            handshake(only(accepted), versions(&[offered]), "a.test").await;
        all.push(seen("peer is incompatible: …", server.unwrap()));
        all.push(seen("received fatal alert: ProtocolVersion", client.unwrap()));
    }
    let mut provider = rustls::crypto::ring::default_provider();
    let old = |suite: &rustls::SupportedCipherSuite| {
        let name = format!("{:?}", suite.suite());
        name.contains("CBC") || !(name.contains("ECDHE") || name.starts_with("TLS13"))
    };
    assert!(!provider.cipher_suites.iter().any(old), "the entry says that rustls has none");
    provider
        .cipher_suites
        .retain(|suite| format!("{:?}", suite.suite()).starts_with("TLS_ECDHE_RSA"));
    let for_rsa = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(trusting([ours.der()]))
        .with_no_client_auth();
    let (server, client) = handshake(shown(good()), for_rsa, "a.test").await;
    all.push(seen("peer is incompatible: …", server.unwrap()));
    all.push(seen("received fatal alert: HandshakeFailure", client.unwrap()));

    let (mut server, mut client) = (shown(good()), known());
    (server.alpn_protocols, client.alpn_protocols) = (alpn(&["h2"]), alpn(&["http/1.1"]));
    let (server, client) = handshake(server, client, "a.test").await;
    all.push(seen("peer doesn't support any known protocol", server.unwrap()));
    all.push(seen("received fatal alert: NoApplicationProtocol", client.unwrap()));

    // Peers that are not rustls.
    let answered = async |entry, bytes: &[u8]| {
        let (io, mut peer) = duplex(1 << 20);
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        seen(entry, connect_tls(io, known(), "a.test").await.expect_err(entry))
    };
    // The numbers of alerts: RFC 8446, 6.
    all.push(answered("received fatal alert: UnrecognisedName", &alert(112)).await);
    all.push(answered("received fatal alert: InternalError", &alert(80)).await);
    let no_tls = "received corrupt message of type InvalidContentType";
    all.push(answered(no_tls, b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    all.push(answered("tls handshake eof", b"").await);
    let accepted = async |entry, bytes: &[u8]| {
        let (io, mut peer) = duplex(1 << 20);
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        let accepted = TlsAcceptor::from(Arc::new(shown(good()))).accept(io).await;
        seen(entry, accepted.map(drop).expect_err(entry))
    };
    all.push(accepted(no_tls, GET).await);
    all.push(accepted("tls handshake eof", b"").await);

    // A server that ends TCP and not TLS.
    let (io, peer) = duplex(1 << 20);
    let server = async {
        let stream = TlsAcceptor::from(Arc::new(shown(good()))).accept(peer).await.unwrap();
        drop(stream.into_inner());
    };
    let client = async {
        let mut stream = connect_tls(io, known(), "a.test").await.unwrap();
        stream.read_u8().await.unwrap_err()
    };
    all.push(seen(
        "peer closed connection without sending TLS close_notify: …",
        tokio::join!(client, server).0,
    ));

    // What is wrong with your own program.
    let folder = TempDir::new().unwrap();
    let none = folder.path().join("none.pem");
    fs::write(&none, "").unwrap();
    let mut command = std::process::Command::new(harness::cargo::program("https"));
    command.arg("https://127.0.0.1:1/").env("SSL_CERT_FILE", &none).env_remove("SSL_CERT_DIR");
    let printed = String::from_utf8(command.output().unwrap().stderr).unwrap();
    all.push(seen("no native root CA certificates found (errors: …)", printed.trim_end()));
    all.push(seen("no items found", PrivateKeyDer::from_pem_file(&none).unwrap_err()));
    let config = ServerConfig::builder().with_no_client_auth();
    let Identity(chain, _) = good();
    let key = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der());
    all.push(seen(
        "keys may not be consistent: KeyMismatch",
        config.with_single_cert(vec![chain[0].der().clone()], key.unwrap()).unwrap_err(),
    ));
    let builder = || HttpsConnectorBuilder::new();
    all.push(caught("ALPN protocols should not be pre-defined", || {
        let mut config = known();
        config.alpn_protocols = alpn(&["h2"]);
        builder().with_tls_config(config);
    }));
    let mut https = builder().with_tls_config(known()).https_only().enable_http1().build();
    let error = https.call(Uri::from_static("http://a.test/")).await.err().unwrap();
    all.push(seen("unsupported scheme …", error));
}

// Bodies.

async fn bodies(all: &mut Vec<Seen>) {
    let limited = Limited::new(Full::<Bytes>::from("hello"), 4);
    all.push(seen("length limit exceeded", limited.collect().await.unwrap_err()));
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    drop(body);
    all.push(seen(
        "failed to send frame",
        sender.send_data(Bytes::new()).await.unwrap_err(),
    ));
    let reason = hyper::ext::ReasonPhrase::try_from(&b"two\nlines"[..]);
    all.push(seen("Invalid byte in reason phrase: …", reason.unwrap_err()));
    let mut collected = Full::<Bytes>::from("hello").collect().await.unwrap().aggregate();
    all.push(caught("`len` greater than remaining", || {
        hyper::body::Buf::copy_to_bytes(&mut collected, 6);
    }));
}

// The http crate.

fn http(all: &mut Vec<Seen>) {
    fn of_http(entry: &'static str, error: impl Into<BoxError>) -> Seen {
        let error = error.into();
        let debug = Some(format!("{error:?}"));
        Seen { debug, ..seen(entry, error) }
    }
    let uri = |text: &str| text.parse::<Uri>().unwrap_err();
    for text in ["example.com/foo", "file:///foo"] {
        all.push(of_http("invalid format", uri(text)));
    }
    for text in ["/two words", "/line\n", "/<", "/>", "http://grün.de/"] {
        all.push(of_http("invalid uri character", uri(text)));
    }
    all.push(of_http("invalid authority", uri("http://::1/")));
    assert!("http://[::1]:3000/".parse::<Uri>().is_ok());
    for text in ["", "http://"] {
        all.push(of_http("empty string", uri(text)));
    }
    let most = prose()
        .number("the target of a request is longer than {} bytes") as usize;
    assert!("/".repeat(most).parse::<Uri>().is_ok());
    let long = uri(&"/".repeat(most + 1));
    assert_eq!((&*long.to_string(), &*format!("{long:?}")), ("uri too long", "InvalidUri(TooLong)"));

    let whole: Uri = "http://a.test/".parse().unwrap();
    let without = |remove: fn(&mut hyper::http::uri::Parts)| {
        let mut parts = whole.clone().into_parts();
        remove(&mut parts);
        Uri::from_parts(parts).unwrap_err()
    };
    all.push(of_http("scheme missing", without(|parts| parts.scheme = None)));
    for (error, text) in [
        (without(|parts| parts.authority = None), "authority missing"),
        (without(|parts| parts.path_and_query = None), "path missing"),
    ] {
        assert_eq!(error.to_string(), text);
    }
    let path = "foo".parse::<hyper::http::uri::PathAndQuery>();
    all.push(of_http("path does not start with slash", path.unwrap_err()));
    let builder = Uri::builder().authority("a.test").path_and_query("/").build();
    assert_eq!(builder.unwrap_err().to_string(), "scheme missing");

    let value = "token\n".parse::<HeaderValue>();
    all.push(of_http("failed to parse header value", value.unwrap_err()));
    let value = HeaderValue::from_str("Zürich").unwrap();
    all.push(of_http("failed to convert header to a str", value.to_str().unwrap_err()));
    for name in ["", "two words", "a:"] {
        let name = name.parse::<HeaderName>();
        all.push(of_http("invalid HTTP header name", name.unwrap_err()));
    }
    for method in ["", "GET "] {
        all.push(of_http("invalid HTTP method", Method::from_bytes(method.as_bytes()).unwrap_err()));
    }
    let [least, most] = prose().numbers("The number is not from {} to {}.");
    for number in [least as u16, most as u16] {
        assert!(StatusCode::from_u16(number).is_ok(), "{number}");
    }
    for number in [least as u16 - 1, most as u16 + 1] {
        all.push(of_http("invalid status code", StatusCode::from_u16(number).unwrap_err()));
    }
    let capacity = HeaderMap::<HeaderValue>::try_with_capacity(1 << 16);
    all.push(of_http("max size reached", capacity.unwrap_err()));

    all.push(caught("HeaderName::from_static with invalid bytes", || {
        HeaderName::from_static("X-Request-Id");
    }));
    all.push(caught("static str is not valid URI: …", || {
        Uri::from_static("example.com/foo");
    }));
}

// Panics.

async fn panics(all: &mut Vec<Seen>) {
    let service = || service_fn(|_| ready(Ok::<_, Infallible>(hello())));
    all.push(caught("timeout `header_read_timeout` set, but no timer set", || {
        let (_, io) = duplex(1024);
        let mut builder = server::conn::http1::Builder::new();
        builder.header_read_timeout(seconds(30));
        drop(builder.serve_connection(TokioIo::new(io), service()));
    }));
    // The order does not count.
    let (_, io) = duplex(1024);
    let mut builder = server::conn::http1::Builder::new();
    builder.header_read_timeout(seconds(30)).timer(TokioTimer::new());
    drop(builder.serve_connection(TokioIo::new(io), service()));
    let (_peer, io) = duplex(1024);
    let without_timer = client::conn::http2::Builder::new(TokioExecutor::new())
        .keep_alive_interval(seconds(20))
        .handshake::<_, Full<Bytes>>(TokioIo::new(io));
    let result = AssertUnwindSafe(async {
        let (_sender, connection) = without_timer.await.unwrap();
        connection.await
    })
    .catch_unwind()
    .await;
    all.push(panicked("You must supply a timer.", result.expect_err("no timer")));
    let least = page("reference/errors").number("Choose at least {} bytes") as usize;
    all.push(caught(
        "the max_buf_size cannot be smaller than the minimum that h1 specifies.",
        || {
            server::conn::http1::Builder::new().max_buf_size(least - 1);
        },
    ));
    server::conn::http1::Builder::new().max_buf_size(least);
    all.push(caught("invalid byte in static reason phrase", || {
        hyper::ext::ReasonPhrase::from_static(b"two\nlines");
    }));
    let wrong = |change: fn(&mut Response<BoxBody>)| {
        let service = service_fn(move |_| {
            let mut response = hello();
            change(&mut response);
            ready(Ok::<_, Infallible>(response))
        });
        async move {
            let (mut peer, io) = duplex(1024);
            peer.write_all(GET).await.unwrap();
            let connection = server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(io), service);
            AssertUnwindSafe(connection).catch_unwind().await.expect_err("it panics")
        }
    };
    all.push(panicked(
        "payload claims content-length of …, custom content-length header claims …",
        wrong(|response| {
            response.headers_mut().insert(CONTENT_LENGTH, "7".parse().unwrap());
        })
        .await,
    ));
    all.push(panicked(
        "unexpected response version: …",
        wrong(|response| *response.version_mut() = Version::HTTP_3).await,
    ));
    let mut bytes = [0; 2];
    let mut buffer = hyper::rt::ReadBuf::new(&mut bytes);
    all.push(caught("src.len() must fit in remaining()", || {
        buffer.unfilled().put_slice(b"hello");
    }));
    all.push(caught("n overflows remaining", || {
        buffer.unfilled().initialize_unfilled_to(3);
    }));
}

// The page.

const PAGE: &str = "src/reference/errors.md";
const CRATES: [&str; 3] = ["hyper", "hyper-util", "http-body-util"];
/// Crates of which the page has those texts that readers meet, and not all.
const OTHERS: [(&str, &str); 5] = [
    ("http", "1"),
    ("rustls", "0.23"),
    ("rustls-pki-types", "1"),
    ("tokio-rustls", "0.26"),
    ("hyper-rustls", "0.27"),
];

/// A heading of the third level, and what stands below it.
#[derive(Clone)]
struct Entry {
    group: String,
    /// What the heading says; without the backticks, if all of it is code.
    message: String,
    code: bool,
    line: usize,
    text: String,
}

fn the_page() -> String {
    fs::read_to_string(root().join(PAGE)).unwrap()
}

fn entries(page: &str) -> Vec<Entry> {
    let mut group = String::new();
    let mut entries: Vec<Entry> = Vec::new();
    for (line, text) in (1..).zip(page.lines()) {
        if let Some(title) = text.strip_prefix("## ") {
            title.clone_into(&mut group);
        } else if let Some(title) = text.strip_prefix("### ") {
            let ticks = if title.starts_with("``") { "``" } else { "`" };
            let inner =
                title.strip_prefix(ticks).and_then(|it| it.strip_suffix(ticks));
            let (code, message) =
                inner.map_or((false, title), |inner| (true, inner.trim()));
            entries.push(Entry {
                group: group.clone(),
                message: message.to_owned(),
                code,
                line,
                text: String::new(),
            });
        } else if let Some(entry) = entries.last_mut()
            && entry.group == group
        {
            entry.text += text;
            entry.text.push('\n');
        }
    }
    entries
}

/// The pieces of code in a text, and in the headings.
fn code(text: &str) -> Vec<String> {
    static CODE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"``\s(.+?)\s``|`([^`]+)`").unwrap());
    let found = CODE.captures_iter(text);
    found
        .map(|found| {
            let piece = found.get(1).or(found.get(2)).unwrap().as_str();
            piece.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

impl Entry {
    fn place(&self) -> String {
        format!("{PAGE}:{}", self.line)
    }

    /// The methods that it begins with.
    fn methods(&self) -> Vec<String> {
        static METHODS: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^(`is_\w+\(\)`(?:, )?)+").unwrap());
        let methods = METHODS.find(self.text.trim_start());
        let methods = methods.map_or(Vec::new(), |found| code(found.as_str()));
        methods.into_iter().map(|it| it.trim_end_matches("()").to_owned()).collect()
    }

    /// The crate and the file that it names as its source.
    fn source(&self) -> Option<(String, String)> {
        static SOURCE: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^Source: `([a-z0-9-]+)/(src/[^`]+)`").unwrap());
        let source = SOURCE.captures(self.text.trim_start())?;
        Some((source[1].to_owned(), source[2].to_owned()))
    }

    fn is_compiler(&self) -> bool {
        self.group == "The compiler"
    }

    fn is_symptom(&self) -> bool {
        self.group == "Symptoms without a message"
    }
}

/// Matches what the page writes as this, where `…` stands for anything.
fn shape(text: &str) -> String {
    regex::escape(text).replace('…', ".*")
}

/// Whether the chain has this as one of its parts, or several.
fn is_part(part: &str, chain: &str) -> bool {
    let pattern = format!("(?s)(^|: ){}($|: )", shape(part));
    Regex::new(&pattern).unwrap().is_match(chain)
}

// What is wrong with the page, as lines `page:line: what: how to fix it`.

/// Errors that are made and are not those of their entries, and entries whose errors nobody makes.
fn wrong_errors(page: &str, seen: &[Seen]) -> Vec<String> {
    let entries = entries(page);
    let mut defects = Vec::new();
    let form = Regex::new(r"With `\{:\?\}`: `(hyper::Error\([^`]*\))`").unwrap();
    for Seen { entry, text, methods, debug, answer } in seen {
        let Some(entry) = entries.iter().find(|it| it.message == *entry) else {
            defects.push(format!("{PAGE}: it has no entry `{entry}`, whose error is made by snippets/tests/reference/errors.rs: add it, or correct the name there"));
            continue;
        };
        let place = entry.place();
        // A list in the text may say how the chain ends.
        let named = is_part(&entry.message, text)
            || code(&entry.text).iter().any(|code| text.ends_with(&format!(": {code}")));
        let begins = entry.message.split('…').next().unwrap();
        let whole = entry.message.contains('…')
            && text.starts_with(begins.rsplit_once(": ").map_or("", |(before, _)| before));
        if !(is_part(&entry.message, text) || named && whole) {
            defects.push(format!("{place}: `{}` is printed as `{text}`: correct the heading, or add the end of the chain to the text", entry.message));
        }
        if entry.methods() != *methods {
            let wanted = methods.iter().map(|it| format!("`{it}()`"));
            let wanted = wanted.collect::<Vec<_>>().join(", ");
            defects.push(format!("{place}: of the methods these are true of `{}`: begin with \"{wanted}\"", entry.message));
        }
        if let (Some(said), Some(debug)) = (form.captures(&entry.text), debug) {
            let shape = format!("(?s)^{}$", shape(&said[1]));
            if !Regex::new(&shape).unwrap().is_match(debug) {
                defects.push(format!("{place}: `{{:?}}` prints `{debug}`, not `{}`: correct it", &said[1]));
            }
        }
        let debug = debug.as_ref().filter(|_| entry.group == "The http crate");
        let begin = debug.map(|debug| format!("`{debug}`"));
        if begin.as_ref().is_some_and(|begin| !entry.text.trim_start().starts_with(begin)) {
            defects.push(format!("{place}: `{{:?}}` prints {}: begin with that", begin.unwrap()));
        }
        let wanted = answer.map(|status| format!("hyper answers {status}"));
        if wanted.is_some_and(|wanted| !entry.text.contains(&wanted)) {
            let status = answer.unwrap();
            defects.push(format!("{place}: hyper answers {status} to what causes `{}`: say \"hyper answers {status}\"", entry.message));
        }
    }
    for entry in entries.iter().filter(|it| !it.is_compiler() && !it.is_symptom()) {
        let is_seen = seen.iter().any(|seen| seen.entry == entry.message);
        match entry.source() {
            None if !is_seen => defects.push(format!("{}: nothing makes the error `{}`: make it in snippets/tests/reference/errors.rs, or begin with \"Source: `CRATE/src/FILE.rs`\"", entry.place(), entry.message)),
            Some(_) if is_seen => defects.push(format!("{}: a test makes the error `{}`: remove its source", entry.place(), entry.message)),
            _ => {}
        }
        let answers = |seen: &Seen| seen.entry == entry.message && seen.answer.is_some();
        if entry.text.contains("hyper answers ") && !seen.iter().any(answers) {
            defects.push(format!("{}: hyper answers nothing to what causes `{}`: remove the status", entry.place(), entry.message));
        }
    }
    defects
}

/// The crates, read once, with all that is in quotes in each of their files.
struct Source {
    name: &'static str,
    version: String,
    /// Each with what finds it among the code of the page.
    texts: Vec<(Text, Regex)>,
    /// Of one of [`OTHERS`] in place of its texts: all that is in quotes in its code.
    literals: Vec<String>,
    quoted: BTreeMap<String, String>,
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let crates = CRATES.into_iter().map(|name| {
        let read = sources::locked(name, if name == "hyper" { "1" } else { "0.1" });
        source(name, &read)
    });
    let others = OTHERS.into_iter().map(|(name, version)| {
        let read = sources::locked(name, version);
        Source {
            name,
            version: read.version.to_string(),
            texts: Vec::new(),
            literals: read.literals(),
            quoted: quoted(&read),
        }
    });
    crates.chain([source("h2", &sources::locked("h2", "0.4"))]).chain(others).collect()
});

fn quoted(read: &sources::Crate) -> BTreeMap<String, String> {
    read.files().into_iter().map(|file| (file.clone(), read.text(&file))).collect()
}

fn source(name: &'static str, read: &sources::Crate) -> Source {
    Source {
        name,
        version: read.version.to_string(),
        texts: read
            .texts()
            .into_iter()
            .map(|text| {
                let said = format!("(?:^|: ){}(?:$|: )", pattern(&text.text));
                (text, Regex::new(&said).unwrap())
            })
            .collect(),
        literals: Vec::new(),
        quoted: quoted(read),
    }
}

/// Functions whose text is no message: names of headers, of parts of a URI, of the environment.
const NO_MESSAGES: [&str; 18] = [
    "HeaderName::from_static",
    "HeaderValue::from_static",
    "SCDynamicStoreBuilder::new",
    "connection_has",
    "env::var_os",
    "eq_ignore_ascii_case",
    "get_string",
    "get_u32",
    "header_value_list_has",
    "join",
    "open",
    "parse",
    "path_and_query",
    "replace",
    "unwrap_or",
    "write_full_header_line",
    "write_header_name_with_colon",
    // The name in another text.
    "check",
];

/// Texts that nobody can see, and why.
const UNSEEN: &[(&str, &str, &str)] = &[
    ("src/body/length.rs", "", "for the log alone"),
    ("src/error.rs", "operation aborted by an application callback", "for programs in C"),
    ("src/client/conn/http2.rs", "http2 cannot upgrade", "hyper does not ask for it"),
    ("src/common/buf.rs", "", "hyper's own buffers"),
    ("src/proto/h1/conn.rs", "poll_read_body invalid state: {:?}", "a state of hyper's own"),
    ("src/proto/h1/conn.rs", "write_body invalid state: {:?}", "a state of hyper's own"),
    ("src/proto/h1/conn.rs", "write_trailers invalid state: {:?}", "a state of hyper's own"),
    ("src/proto/h1/io.rs", "The max_buf_size cannot be smaller than {MINIMUM_MAX_BUFFER_SIZE}.", "the builders look first"),
    ("src/proto/h1/role.rs", "BodyLength::Unknown would set chunked", "a state of hyper's own"),
    ("src/client/legacy/client.rs", "authority_form with relative uri", "the client looks first"),
    ("src/client/legacy/connect/dns.rs", "Not a valid domain name", "any name is one so far"),
    ("src/client/legacy/connect/proxy/socks/mod.rs", "missing destination port", "no port means 443"),
    ("src/client/legacy/connect/proxy/socks/mod.rs", "failed serialize request", "its buffer grows"),
    ("src/client/legacy/connect/proxy/socks/mod.rs", "unexpected eof", "a SOCKS error has no source"),
    ("src/client/legacy/connect/proxy/socks/v4/messages.rs", "success", "is no error"),
    ("src/client/legacy/connect/proxy/socks/v5/messages.rs", "success", "is no error"),
    ("src/client/pool/negotiate.rs", "sentinel error; using other", "negotiate takes it back"),
    ("src/client/pool/singleton.rs", "singleton participant polled after making was canceled", "a future polled after its end"),
    ("src/common/lazy.rs", "lazy state wrong", "a state of its own"),
    ("src/service/oneshot.rs", "polled after complete", "a future polled after its end"),
];

/// A text with `{}` in it as a pattern; on the page `…` may stand there.
fn pattern(text: &str) -> String {
    let words: Vec<_> =
        HOLE.split(text.trim_end_matches([':', ' '])).map(regex::escape).collect();
    words.join("(?:…|.+?)")
}

/// What a format string leaves open.
static HOLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{[^{}]*\}").unwrap());

const CLIENT: &str = "src/client/legacy/client.rs";

/// What stands in the parentheses of `client error (…)`.
fn client_errors() -> Vec<String> {
    let client = &SOURCES.iter().find(|it| it.name == "hyper-util").unwrap().quoted[CLIENT];
    let (_, variants) = client.split_once("\nenum ErrorKind {").expect("it has moved");
    let (variants, _) = variants.split_once("\n}").unwrap();
    let names = Regex::new(r"(?m)^    (\w+),$").unwrap();
    names.captures_iter(variants).map(|found| found[1].to_owned()).collect()
}

/// Texts of the crates that the page does not have.
fn missing_texts(page: &str) -> Vec<String> {
    let on_page: Vec<String> = code(page);
    let (mut defects, mut known) = (Vec::new(), BTreeSet::new());
    for kind in client_errors() {
        let begin = format!("client error ({kind})");
        if !on_page.iter().any(|code| code.starts_with(&begin)) {
            defects.push(format!("{PAGE}: it does not have `{begin}`, hyper-util, {CLIENT}: add an entry with this heading"));
        }
    }
    for source in SOURCES.iter().filter(|it| it.name != "h2") {
        for (text, said) in &source.texts {
            let unseen = match &text.kind {
                Kind::Expect => true,
                Kind::Argument(of) if NO_MESSAGES.contains(&&**of) => true,
                _ => UNSEEN.iter().any(|(file, unseen, _)| {
                    *file == text.file && (unseen.is_empty() || *unseen == text.text)
                }),
            };
            let on_page = || on_page.iter().any(|code| said.is_match(code));
            // Once, at its first place.
            if !unseen && !on_page() && known.insert((source.name, &text.text)) {
                defects.push(format!("{PAGE}: it does not have `{}`, {} {}, {}:{}: add an entry with this heading, or, if nobody can see the text, the reason to UNSEEN in snippets/tests/reference/errors.rs", text.text, source.name, source.version, text.file, text.line));
            }
        }
    }
    defects
}

/// The texts of the crates.
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    // Of the operating system and of httparse.
    let others = [
        "Connection refused (os error 111)",
        "Connection reset by peer",
        "Too many open files",
        "invalid header name",
        "os error 107",
        "unexpected end of file",
        "…",
    ];
    let texts = SOURCES.iter().flat_map(|source| &source.texts);
    let literals = SOURCES.iter().flat_map(|source| &source.literals);
    // Of a text of several lines, the first is the heading; of one with a link, what is before it.
    let literals = literals.filter_map(|it| it.trim().lines().next());
    let literals = literals.map(|it| it.split(": https://").next().unwrap());
    let texts: BTreeSet<&str> = texts.map(|(text, _)| &*text.text).chain(literals).collect();
    // `{}: {}` would match any text.
    let has_words = |text: &&str| {
        let words = HOLE.replace_all(text, "");
        words.chars().filter(|c| c.is_alphabetic()).count() > 3
    };
    let texts = texts.into_iter().filter(has_words).map(pattern);
    texts
        .chain(others.map(regex::escape))
        .map(|pattern| Regex::new(&format!("^(?:{pattern})$")).unwrap())
        .collect()
});

/// Entries whose words no crate has.
fn invented_texts(page: &str) -> Vec<String> {
    fn quoted(message: &str) -> bool {
        let quoted = format!("\"{message}\"");
        SOURCES.iter().filter(|it| it.literals.is_empty()).any(|it| it.quoted.values().any(|file| file.contains(&quoted)))
    }
    /// Whether it is one text, or several after one another.
    fn known(message: &str) -> bool {
        let is = |part: &str| part == "…" || PATTERNS.iter().any(|it| it.is_match(part)) || quoted(part);
        let cuts = message.match_indices(": ").map(|(at, _)| at);
        is(message)
            || cuts.into_iter().any(|at| is(&message[..at]) && known(&message[at + 2..]))
    }
    let sentence = Regex::new(r"^[A-Za-z][\w :'/-]* [a-z][\w :'/-]*$").unwrap();
    let mut defects = Vec::new();
    for entry in entries(page).iter().filter(|it| !it.is_compiler() && !it.is_symptom()) {
        // `chunk … over limit` is more than one text; those stand in the list below it.
        let message = &entry.message;
        let several = message.split_once(": ").is_some_and(|(before, end)| {
            known(before)
                && end.contains('…')
                && code(&entry.text).iter().any(|it| {
                    Regex::new(&format!("^{}$", shape(end))).unwrap().is_match(it)
                        && known(it)
                })
        });
        if !known(message) && !several {
            defects.push(format!("{}: the crates have no text `{message}`: correct the heading, or remove the entry", entry.place()));
        }
        // What looks like a sentence in code is a message, too.
        let said = code(&entry.text).into_iter();
        for said in said.filter(|it| sentence.is_match(it) && !it.starts_with("cargo ")) {
            if !known(&said) {
                defects.push(format!("{}: the crates have no text `{said}`: correct it", entry.place()));
            }
        }
        if let Some((name, file)) = entry.source() {
            let source = SOURCES.iter().find(|it| it.name == name);
            let text = source.and_then(|it| it.quoted.get(&file));
            let last = message.trim_end_matches(['…', ':', ' ']);
            let last = last.rsplit_once(": ").map_or(last, |(_, last)| last);
            let last = last.strip_prefix("client error (").map_or(last, |it| it.trim_end_matches(')'));
            if !text.is_some_and(|text| text.contains(last)) {
                defects.push(format!("{}: {name}/{file} does not have `{last}`: name the file that does", entry.place()));
            }
        }
    }
    defects
}

/// What the compiler says of the programs in snippets/mistakes: the path, and the first line.
fn mistakes() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for folder in fs::read_dir(root().join("snippets/mistakes")).unwrap() {
        let Ok(files) = fs::read_dir(folder.unwrap().path()) else { continue };
        for file in files.map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|it| it == "stderr") {
                let text = fs::read_to_string(&file).unwrap();
                let first = text.lines().next().unwrap();
                let (_, message) = first.split_once(": ").unwrap();
                let path = file.strip_prefix(root()).unwrap();
                all.push((path.to_str().unwrap().to_owned(), message.to_owned()));
            }
        }
    }
    all.sort();
    all
}

/// Messages of the compiler that the page does not have, and entries that it never says.
fn wrong_compiler(page: &str) -> Vec<String> {
    let mistakes = mistakes();
    let entries = entries(page);
    let of_compiler = entries.iter().filter(|it| it.is_compiler());
    let of_compiler: Vec<_> = of_compiler
        .map(|it| {
            let message = format!("^{}$", shape(&it.message));
            (it, Regex::new(&message).unwrap())
        })
        .collect();
    let mut defects = Vec::new();
    for (path, message) in &mistakes {
        if !of_compiler.iter().any(|(_, entry)| entry.is_match(message)) {
            defects.push(format!("{PAGE}: it has no entry for `{message}`, {path}: add it to \"The compiler\", with … for the types"));
        }
    }
    for (entry, said) in of_compiler {
        if !mistakes.iter().any(|(_, message)| said.is_match(message)) {
            defects.push(format!("{}: no program in snippets/mistakes ends with `{}`: add one, or remove the entry", entry.place(), entry.message));
        }
    }
    defects
}

/// Entries that do not lead to a page with tests.
fn wrong_links(page: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(\.\./([a-z/-]+[a-z0-9-]*)\.md(?:#[^)]*)?\)").unwrap();
    let mut defects = Vec::new();
    let mut known = BTreeMap::new();
    for entry in entries(page) {
        if let Some(line) = known.insert(entry.message.clone(), entry.line) {
            defects.push(format!("{}: line {line} has `{}` too: keep one", entry.place(), entry.message));
        }
        if entry.code == entry.is_symptom() {
            defects.push(format!("{}: a message is code, and a symptom is not: change the heading", entry.place()));
        }
        let linked = link.captures_iter(&entry.text).any(|found| {
            !entry.is_symptom() || {
                let tests = format!("snippets/tests/{}.rs", found[1].replace('-', "_"));
                root().join(tests).exists()
            }
        });
        if !linked {
            defects.push(format!("{}: it leads to no page of this book that shows it: link one", entry.place()));
        }
    }
    defects
}

#[track_caller]
fn none(defects: &[String]) {
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

fn all() -> Vec<Seen> {
    paused(async {
        let mut all = Vec::new();
        servers(&mut all).await;
        clients(&mut all).await;
        upgrades(&mut all).await;
        second_version(&mut all).await;
        pooled(&mut all).await;
        proxies(&mut all).await;
        tls(&mut all).await;
        bodies(&mut all).await;
        http(&mut all);
        panics(&mut all).await;
        all
    })
}

#[test]
fn each_error_is_printed_as_its_entry_says() {
    none(&wrong_errors(&the_page(), &all()));
}

#[test]
fn each_text_of_the_crates_has_an_entry() {
    none(&missing_texts(&the_page()));
}

/// Logs often have an error as `{:?}` prints it: with the names of the variants in hyper's source.
#[test]
fn each_error_of_hyper_has_its_debug_form() {
    let hyper = sources::locked("hyper", "1").text("src/error.rs");
    let arm = Regex::new(r#"Kind::([A-Za-z0-9:()]+) =>\s*(?:\{\s*)?"([^"]+)""#).unwrap();
    let (_, arms) = hyper.split_once("fn description(&self)").unwrap();
    let outer = Regex::new(r"\w+::").unwrap();
    let forms: Vec<(String, String)> = arm
        .captures_iter(arms)
        .map(|found| {
            (found[2].to_owned(), outer.replace_all(&found[1], "").into_owned())
        })
        .collect();
    let (mut seen, mut defects) = (0, Vec::new());
    for entry in entries(&the_page()) {
        let form = forms.iter().find(|(text, _)| {
            entry.message == *text || entry.message.starts_with(&format!("{text}:"))
        });
        let Some((text, form)) = form else { continue };
        let said = format!("With `{{:?}}`: `hyper::Error({form}");
        // An entry of the pooled client has the text as a cause.
        seen += 1;
        if !entry.text.contains(&said) {
            defects.push(format!("{PAGE}: the entry `{}`: end it with \"{said}\", the Debug form of `{text}`", entry.message));
        }
    }
    assert!(seen > 35, "{seen}");
    none(&defects);
}

#[test]
fn each_exception_is_needed() {
    let texts = || SOURCES.iter().flat_map(|it| &it.texts).map(|(text, _)| text);
    let mut defects = Vec::new();
    for name in NO_MESSAGES {
        let kind = Kind::Argument(name.to_owned());
        if !texts().any(|text| text.kind == kind) {
            defects.push(format!("no crate calls `{name}` with a text: remove it from NO_MESSAGES"));
        }
    }
    for (file, unseen, reason) in UNSEEN {
        let is = |text: &Text| {
            text.file == *file && (unseen.is_empty() || text.text == *unseen)
        };
        if !texts().any(is) {
            defects.push(format!("{file} has no text `{unseen}` ({reason}): remove it from UNSEEN"));
        }
    }
    none(&defects);
}

#[test]
fn each_entry_has_the_words_of_a_crate() {
    none(&invented_texts(&the_page()));
}

#[test]
fn each_message_of_the_compiler_has_an_entry_and_each_entry_a_program() {
    none(&wrong_compiler(&the_page()));
}

/// What the entries of the compiler put in the place of a mistake.
#[tokio::test]
async fn what_the_compiler_refuses_has_a_form_that_it_accepts() {
    let says = page("reference/errors");
    says.says("Return Box<dyn Error + Send + Sync>, or an enum of your own");
    async fn file(_: Request<Incoming>) -> Result<Response<BoxBody>, BoxError> {
        std::fs::read("no such file")?;
        Ok(hello())
    }
    let error = served(GET, false, file).await.0.unwrap_err();
    assert!(error.is_user() && error.source().unwrap().is::<io::Error>());

    says.says("service_fn(|request: Request<Incoming>| handle(request.map(BodyExt::boxed)))");
    type Boxed = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;
    async fn handle(request: Request<Boxed>) -> Result<Response<BoxBody>, hyper::Error> {
        assert!(request.into_body().collect().await?.to_bytes().is_empty());
        Ok(hello())
    }
    let get = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let (_, answer) = served(get, false, |request: Request<Incoming>| {
        handle(request.map(BodyExt::boxed))
    })
    .await;
    assert!(answer.ends_with("hello"), "{answer}");

    says.says("The methods of a buffer are those of a trait: use hyper::body::Buf;.");
    use hyper::body::Buf;
    let body = Full::<Bytes>::from("[1]").collect().await.unwrap().aggregate();
    assert!(body.remaining() == 3 && body.chunk() == b"[1]");
    let parsed: Vec<u8> = serde_json::from_reader(body.reader()).unwrap();
    assert_eq!(parsed, [1]);
}

#[test]
fn each_entry_leads_to_a_page() {
    none(&wrong_links(&the_page()));
}

/// The page, with this in place of that; and the one defect that it then has.
#[track_caller]
fn defect(from: &str, to: &str, check: impl Fn(&str) -> Vec<String>) -> String {
    let page = the_page();
    assert!(page.contains(from), "{PAGE} does not have {from:?}: change this test");
    let mut defects = check(&page.replacen(from, to, 1));
    assert_eq!(defects.len(), 1, "{}", defects.join("\n"));
    defects.remove(0)
}

/// Each check looks at a page with a mistake.
#[test]
fn the_checks_find_what_is_missing_changed_and_invented() {
    #[track_caller]
    fn says(defect: &str, pieces: &[&str]) {
        for piece in pieces {
            assert!(defect.contains(piece), "{defect}: it does not say {piece:?}");
        }
    }
    let removed = defect("### `URI too long`", "", missing_texts);
    says(&removed, &[PAGE, "`URI too long`", "hyper 1.", "src/error.rs:", "add an entry"]);
    let changed = defect("`You must supply a timer.`", "`Supply a timer.`", missing_texts);
    says(&changed, &["`You must supply a timer.`", "src/common/time.rs:"]);
    let changed = defect("`You must supply a timer.`", "`Supply a timer.`", invented_texts);
    says(&changed, &[PAGE, "no text `Supply a timer.`", "remove the entry"]);
    let changed = defect("### `tls handshake eof`", "### `tls handshake end`", invented_texts);
    says(&changed, &["no text `tls handshake end`", "remove the entry"]);
    let listed = defect("`ttl expired`", "`time expired`", invented_texts);
    says(&listed, &["no text `time expired`"]);
    let kind = defect("`client error (ChannelClosed)`", "`channel closed`", missing_texts);
    says(&kind, &["`client error (ChannelClosed)`", CLIENT]);
    let list = defect("`chunk trailers count overflow`", "`overflow`", missing_texts);
    says(&list, &["`chunk trailers count overflow`", "src/proto/h1/decode.rs:"]);
    let source = defect(
        "Source: `hyper/src/common/lock.rs`",
        "Source: `hyper/src/error.rs`",
        invented_texts,
    );
    says(&source, &["hyper/src/error.rs does not have `lock poisoned by panic`"]);

    let all = all();
    let errors = |page: &str| wrong_errors(page, &all);
    let method = defect("`is_parse()`, `is_parse_too_large()`. Server", "`is_parse()`. Server", errors);
    says(&method, &["`URI too long`", "begin with \"`is_parse()`, `is_parse_too_large()`\""]);
    let status = defect("hyper answers 414", "hyper answers 400", errors);
    says(&status, &["`URI too long`", "hyper answers 414"]);
    let nobody = defect("Source: `hyper/src/common/lock.rs`. ", "", errors);
    says(&nobody, &["nothing makes the error `lock poisoned by panic: …`"]);
    let seen = defect("The proxy answered 407", "Source: `hyper/src/error.rs`. 407", errors);
    says(&seen, &["a test makes the error `tunnel error: proxy authorization required`"]);

    let message = "`evaluation panicked: HeaderName::from_static with invalid bytes`";
    let renamed = |check: fn(Vec<String>) -> Vec<String>| {
        let from = format!("### {message}");
        defect(&from, "### `evaluation failed`", |page| check(wrong_compiler(page)))
    };
    let compiler = renamed(|mut defects| {
        defects.truncate(1);
        defects
    });
    says(&compiler, &[message, "upper_case_name.stderr"]);
    let never = renamed(|mut defects| defects.split_off(1));
    says(&never, &["no program in snippets/mistakes ends with `evaluation failed`"]);
    let form = defect("`hyper::Error(Parse(UriTooLong))`", "`hyper::Error(Parse(TooLong))`", errors);
    says(&form, &["prints `hyper::Error(Parse(UriTooLong))`", "correct it"]);
    let begin = defect("`InvalidUri(InvalidAuthority)`. ", "", errors);
    says(&begin, &[PAGE, "prints `InvalidUri(InvalidAuthority)`: begin with that"]);
    let link = defect(" [Decompression](../client/decompression.md).", "", wrong_links);
    says(&link, &["link one"]);
}

// What the entries say beside their messages.

fn prose() -> harness::Prose {
    page("reference/errors")
}

/// Of no bytes, but it does not know that it has ended: as in `ServeDir` of tower-http.
struct NoBytes;

impl hyper::body::Body for NoBytes {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(0)
    }
}

#[tokio::test]
async fn three_visible_characters_are_refused_in_a_path() {
    prose().says("In a path, <, > and a backtick must be percent-encoded; letters such as é need not");
    let visible = ('!'..='~').filter(|it| !['#', '?'].contains(it));
    for character in visible.chain(['é']) {
        let head = format!("GET /{character} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let service = |_| ready(Ok::<_, Infallible>(hello()));
        let (result, answer) = served(head.as_bytes(), false, service).await;
        let refused = ['<', '>', '`'].contains(&character);
        let debug = result.err().map(|error| format!("{error:?}"));
        let expected = refused.then(|| "hyper::Error(Parse(Uri))".to_owned());
        assert_eq!(debug, expected, "{character}: {answer}");
    }
}

#[tokio::test]
async fn a_body_after_a_response_to_head_is_unexpected() {
    prose().says("or a body after a response that has none, as to HEAD");
    let (io, mut server) = duplex(1024);
    let (mut sender, connection) =
        client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let head = Request::head("/").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(head);
    server.read_u8().await.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    server.write_all(answer).await.unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    let error = connection.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "received unexpected message from connection");
}

#[tokio::test]
async fn the_length_stays_in_a_response_to_head() {
    prose().says("In a response to HEAD it is right, and stays");
    let head = b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let service = |_| {
        let response = Response::builder().header(CONTENT_LENGTH, "7");
        ready(Ok::<_, Infallible>(response.body(NoBytes.boxed_unsync()).unwrap()))
    };
    let (result, answer) = served(head, false, service).await;
    result.unwrap();
    assert!(answer.contains("content-length: 7\r\n"), "{answer}");
}

#[tokio::test]
async fn a_lookup_without_a_descriptor_is_a_dns_error() {
    let text = "Too many open files (os error 24)";
    prose().says("the lookup got no file descriptor");
    let resolver = tower::service_fn(|_: Name| {
        ready(Err::<std::vec::IntoIter<SocketAddr>, _>(io::Error::from_raw_os_error(24)))
    });
    let client = Client::builder(TokioExecutor::new())
        .build::<_, Empty<Bytes>>(HttpConnector::new_with_resolver(resolver));
    let error = client.get(Uri::from_static("http://a.test/")).await.unwrap_err();
    assert_eq!(chain(&error), format!("client error (Connect): dns error: {text}"));
}

/// It begins when the runtime has stopped, as at the end of a test.
#[test]
fn a_lookup_ends_with_its_runtime() {
    prose().says("With task … was cancelled, the runtime of the request has stopped");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let entered = handle.enter();
    let lookup = GaiResolver::new().call("localhost".parse().unwrap());
    drop(entered);
    let lookup = Arc::new(Mutex::new(Some(lookup)));
    let resolver =
        tower::service_fn(move |_: Name| lookup.lock().unwrap().take().unwrap());
    let mut connector = HttpConnector::new_with_resolver(resolver);
    let connecting = connector.call(Uri::from_static("http://localhost/"));
    let error = paused(connecting).unwrap_err();
    let text = chain(&error);
    assert!(is_part("dns error: task … was cancelled", &text), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn accept_has_the_address_of_a_client_that_has_reset_the_connection() {
    prose().says("Take the address that accept returns");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = client.local_addr().unwrap();
    let client = Socket::from(client);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let (stream, peer) = listener.accept().unwrap();
    assert_eq!(peer, address);
    let error = stream.peer_addr().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(error.to_string().ends_with("(os error 107)"), "{error}");
}

#[tokio::test]
async fn an_end_below_hyper_has_another_text() {
    prose().says("If the chain ends with unexpected end of file");
    let (io, mut peer) = duplex(1024);
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhi";
    peer.write_all(head).await.unwrap();
    let error = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let error = &error;
        async move {
            *error.lock().unwrap() = Some(request.into_body().collect().await.unwrap_err());
            Ok::<_, Infallible>(hello())
        }
    });
    // TLS ends without a word after the first read.
    let mut io = Broken::new(io);
    (io.reads, io.error) = (Some(1), io::ErrorKind::UnexpectedEof);
    server::conn::http1::Builder::new().serve_connection(io, service).await.ok();
    let error = error.into_inner().unwrap().unwrap();
    let text = "error reading a body from connection: unexpected end of file";
    assert_eq!(chain(&error), text);
}

#[tokio::test]
async fn http09_responses_takes_all_for_the_body() {
    prose().says("all that such a server sends is the body, its first line included");
    let (io, mut peer) = duplex(1024);
    let (mut sender, connection) = client::conn::http1::Builder::new()
        .http09_responses(true)
        .handshake(TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    let sent = "ICY 200 OK\r\nicy-name: radio\r\n\r\nmusic";
    let answer = async {
        head(&mut peer).await;
        peer.write_all(sent.as_bytes()).await.unwrap();
        drop(peer);
    };
    let response = tokio::join!(sender.send_request(get()), answer).0.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_09));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), sent);
}

/// What a server of HTTP/2 gets as `:authority` and as `host`.
async fn received_hosts(
    request: Request<Empty<Bytes>>,
) -> (Option<String>, Vec<String>) {
    let (io, peer) = duplex(1 << 20);
    let hosts = Arc::new(Mutex::new(None));
    let seen = hosts.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let authority = request.uri().authority().map(ToString::to_string);
        let host = request.headers().get_all("host").iter();
        let host = host.map(|it| it.to_str().unwrap().to_owned()).collect();
        *seen.lock().unwrap() = Some((authority, host));
        ready(Ok::<_, Infallible>(hello()))
    });
    let server = server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(server.serve_connection(TokioIo::new(peer), service));
    let client =
        Client::builder(TokioExecutor::new()).http2_only(true).build(once(Broken::new(io)));
    client.request(request).await.unwrap();
    let hosts = hosts.lock().unwrap().take();
    hosts.unwrap()
}

#[tokio::test]
async fn over_http2_a_host_that_is_set_goes_out_beside_the_authority() {
    prose().says("A host header that your client sets goes out beside :authority");
    let get = || Request::get("http://a.test/");
    let with = get().header("host", "b.test").body(Empty::new()).unwrap();
    let authority = Some("a.test".to_owned());
    assert_eq!(received_hosts(with).await, (authority.clone(), vec!["b.test".to_owned()]));
    let without = get().body(Empty::new()).unwrap();
    assert_eq!(received_hosts(without).await, (authority, vec![]));
}

#[tokio::test]
async fn a_larger_limit_takes_large_headers_over_http2() {
    let (sent, received) = large_headers(|builder| {
        builder.max_header_list_size(1 << 16);
    })
    .await;
    assert_eq!(received.unwrap().headers()["a"].len(), sent);
}

#[tokio::test]
async fn a_connection_after_its_upgrade_takes_a_shutdown_and_a_poll() {
    prose().says("Update hyper, which ignores both from hyper 1.3 on");
    let (mut peer, io) = duplex(1024);
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    peer.write_all(ask).await.unwrap();
    let upgraded = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        *upgraded.lock().unwrap() = Some(hyper::upgrade::on(request));
        let mut response = hello();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, "chat".parse().unwrap());
        ready(Ok::<_, Infallible>(response))
    });
    let mut connection = server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    (&mut connection).await.unwrap();
    let upgraded = upgraded.lock().unwrap().take().unwrap();
    upgraded.await.unwrap();
    Pin::new(&mut connection).graceful_shutdown();
    connection.await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_has_its_number() {
    prose().says("something listens on this address and port");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = tokio::net::TcpListener::bind(address).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let said = if cfg!(target_os = "linux") {
        let text = "Address already in use (os error 98)";
        assert_eq!(error.to_string(), text);
        text.to_owned()
    } else {
        error.to_string()
    };
    let before = hyper_014::Server::try_bind(&address).map(drop).unwrap_err();
    assert_eq!(before.to_string(), format!("error creating server listener: {said}"));
}

/// The ports of connections that have ended, and are kept.
#[cfg(target_os = "linux")]
fn waiting() -> BTreeSet<u16> {
    const TIME_WAIT: u8 = 6;
    let waiting = harness::sockets().into_iter().filter(|it| it.state == TIME_WAIT);
    waiting.map(|it| it.local_port).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn the_side_that_closes_first_keeps_its_port() {
    prose().says("the side that closed it first keeps the port in TIME_WAIT");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ports = [(); 5].map(|()| {
        let client = std::net::TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let port = client.local_addr().unwrap().port();
        drop(client);
        // It has seen the end, and then closes as well.
        assert_eq!(io::Read::read(&mut server, &mut [0]).unwrap(), 0);
        drop(server);
        port
    });
    harness::wait("TIME_WAIT", || waiting().is_superset(&ports.into()));
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let range: Vec<u16> = range.split_whitespace().map(|it| it.parse().unwrap()).collect();
    assert!(ports.iter().all(|port| (range[0]..=range[1]).contains(port)), "{ports:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_announced_and_not_sent_has_no_end() {
    prose().says("hyper has no limit for that");
    let (mut peer, io) = duplex(1024);
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhi";
    peer.write_all(head).await.unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        request.into_body().collect().await?;
        Ok::<_, hyper::Error>(hello())
    });
    let connection = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(io), service);
    tokio::time::timeout(seconds(86_400), connection).await.expect_err("it waits");
}

#[tokio::test]
async fn of_a_length_and_chunks_the_chunks_are_read() {
    prose().says("hyper reads the chunks, and removes the length before your handler sees the request");
    prose().says("After the response it closes the connection");
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
    let read = Mutex::new(None);
    let service = |request: Request<Incoming>| {
        let read = &read;
        async move {
            let length = request.headers().get(CONTENT_LENGTH).cloned();
            let body = request.into_body().collect().await?.to_bytes();
            *read.lock().unwrap() = Some((length, body));
            Ok::<_, hyper::Error>(hello())
        }
    };
    // The client would go on: it is hyper that ends the connection.
    let (result, answer) =
        served(format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes(), false, service).await;
    result.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(read.into_inner().unwrap(), Some((None, Bytes::from("hello"))));
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_hello_world_levels_off() {
    prose().says("with the server of Hello World, the memory levels off after the first rounds");
    let program = harness::Program::start("hello-world");
    let memory = || harness::memory(program.id()).expect("Linux tells it") as i64;
    let before = memory();
    let descriptors =
        || fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count();
    let idle = descriptors();
    let rounds: Vec<i64> = (0..8)
        .map(|_| {
            // Each asks at once: the server ends a connection that is silent for long.
            let ask = |_| {
                let mut connection = program.connect();
                let head = "GET / HTTP/1.1\r\nhost: a\r\na: ";
                connection.send(format!("{head}{}\r\n\r\n", "x".repeat(50_000)));
                assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 200 OK");
                connection
            };
            let connections: Vec<_> = (0..300).map(ask).collect();
            drop(connections);
            harness::wait("the end of all connections", || descriptors() == idle);
            memory()
        })
        .collect();
    let grown = rounds[0] - before;
    assert!(grown > 1024, "it stays high: {before}, {rounds:?}");
    // A leak would add about as much in each of these four rounds.
    let later = rounds[7] - rounds[3];
    assert!(later < 2 * grown, "it levels off: {before}, {rounds:?}");
}

/// hyper#3750: a client of a Unix socket that sends its path as the authority.
#[tokio::test(start_paused = true)]
async fn over_http2_an_authority_must_be_a_host() {
    prose().says("if the authority is no host, such as the path of a Unix socket");
    const PROTOCOL_ERROR: u32 = 1;
    prose().says("Over HTTP/2 there is no 400: the stream is reset, with PROTOCOL_ERROR");
    let refused = || vec![PROTOCOL_ERROR];
    for (authority, path, resets) in [
        ("localhost", "/", vec![]),
        ("/run/a.sock", "/", refused()),
        ("localhost", "/<", refused()),
    ] {
        let (client, io) = duplex(1024);
        let service = service_fn(|_| ready(Ok::<_, Infallible>(hello())));
        tokio::spawn(
            server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(io), service),
        );
        // GET over http, and fields that are not indexed: RFC 7541, 6.2.2.
        let mut head = b"\x82\x86".to_vec();
        for (index, text) in [(1, authority), (4, path)] {
            head.extend([index, text.len() as u8]);
            head.extend(text.as_bytes());
        }
        let request = frame(HEADERS, END_HEADERS_AND_STREAM, 1, &head);
        assert_eq!(goaway(client, vec![request]).await, (None, resets), "{authority} {path}");
    }
}
