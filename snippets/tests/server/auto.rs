//! What src/server/auto.md promises.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use harness::{LIMIT, Program, Prose, page};

use super::limits::{
    END_HEADERS_AND_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, end,
    frame, read_frame,
};

/// The program itself, for tests on a connection in memory with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/auto.rs"]
mod program;

type Builder = auto::Builder<TokioExecutor>;

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost:3000\r\n\r\n";
const IDLE: &str = "read header from client timeout";
const NO_REQUEST: &str = "no request in time";
const HOUR: Duration = Duration::from_secs(3600);

fn auto() -> Prose {
    page("server/auto")
}

fn first_request() -> u64 {
    auto().number("A client that has sent no request after {} seconds is dropped")
}

fn head() -> u64 {
    program::HEAD.as_secs()
}

fn new() -> Builder {
    auto::Builder::new(TokioExecutor::new())
}

/// A connection in memory to the program, and how it ends.
fn start(builder: Builder) -> (DuplexStream, JoinHandle<Result<(), String>>) {
    let (client, server) = duplex(64 * 1024);
    let conn = tokio::spawn(async {
        program::serve(server, builder)
            .await
            .map_err(|error| program::report(&*error))
    });
    (client, conn)
}

fn request(headers: &[u8]) -> Vec<u8> {
    [
        PREFACE.as_bytes(),
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_HEADERS_AND_STREAM, 1, headers),
    ]
    .concat()
}

/// GET / over http, authority x.
const GET_2: &[u8] = b"\x82\x86\x84\x41\x01x";

/// All that the server sends, until it closes the connection or says nothing for an hour.
async fn all(client: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    timeout(HOUR, client.read_to_end(&mut bytes)).await.ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The body that hyper's client gets over HTTP/2 on this stream.
async fn over_http2(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> String {
    let (mut client, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
    tokio::spawn(driver);
    let request = Request::get("http://localhost:3000/").body(Empty::<Bytes>::new());
    text(client.send_request(request.unwrap()).await.unwrap()).await
}

/// The body that hyper's client gets over HTTP/1 on this stream.
async fn over_http1(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> String {
    let (mut client, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(driver);
    let request = Request::get("/").header("host", "localhost:3000");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    text(client.send_request(request).await.unwrap()).await
}

async fn text(response: Response<Incoming>) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

const VERSION_1: &str = "HTTP/1.1 for localhost:3000\n";
const VERSION_2: &str = "HTTP/2.0 for localhost:3000\n";

// Both versions.

#[tokio::test]
async fn both_versions_are_answered_on_one_port() {
    let program = Program::start("auto");
    let connect =
        async || tokio::net::TcpStream::connect(program.address).await.unwrap();
    // At the same time: none of them has to wait until another one has gone.
    let (first, second, third) = (connect().await, connect().await, connect().await);
    let answers = timeout(LIMIT, async {
        tokio::join!(over_http1(first), over_http2(second), over_http1(third))
    });
    let answers = answers.await.expect("each is answered");
    assert_eq!(answers, (VERSION_1.into(), VERSION_2.into(), VERSION_1.into()));
}

/// The two sides of TLS, for `localhost`, and what they offer by ALPN.
pub fn tls(client: &[&[u8]], server: &[&[u8]]) -> (TlsConnector, TlsAcceptor) {
    let owned = |names: &[&[u8]]| names.iter().map(|name| name.to_vec()).collect();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = key.cert.der().clone();
    let mut server_config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    server_config.alpn_protocols = owned(server);
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let mut client_config =
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client_config.alpn_protocols = owned(client);
    (Arc::new(client_config).into(), Arc::new(server_config).into())
}

#[tokio::test]
async fn both_versions_are_answered_over_tls() {
    const OFFERED: &[&[u8]] = &[b"h2", b"http/1.1"];
    for (client, server, chosen) in [
        (OFFERED, OFFERED, Some(&b"h2"[..])),
        (&[b"h2"], OFFERED, Some(b"h2")),
        (&[b"http/1.1"], OFFERED, Some(b"http/1.1")),
        // The order of the server counts.
        (OFFERED, &[b"http/1.1", b"h2"], Some(b"http/1.1")),
        (&[b"http/1.1", b"h2"], OFFERED, Some(b"h2")),
        // One of them offers none: the first bytes decide.
        (&[], OFFERED, None),
        (OFFERED, &[], None),
    ] {
        for second in [true, false] {
            if chosen.is_some_and(|chosen| (chosen == b"h2") != second) {
                continue;
            }
            let (connector, acceptor) = tls(client, server);
            let (io, server) = duplex(64 * 1024);
            tokio::spawn(async move {
                let stream = acceptor.accept(server).await.unwrap();
                let builder =
                    program::builder_for(stream.get_ref().1.alpn_protocol());
                program::serve(stream, builder).await
            });
            let answer = timeout(LIMIT, async {
                let name = "localhost".try_into().unwrap();
                let stream = connector.connect(name, io).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
                if second {
                    over_http2(stream).await
                } else {
                    over_http1(stream).await
                }
            });
            let answer = answer.await.expect("an answer");
            assert_eq!(
                answer,
                if second { VERSION_2 } else { VERSION_1 },
                "{chosen:?}"
            );
        }
    }
}

#[tokio::test]
async fn without_a_common_version_the_handshake_fails() {
    let (connector, acceptor) = tls(&[b"http/1.1"], &[b"h2"]);
    let (client, server) = duplex(64 * 1024);
    let name = "localhost".try_into().unwrap();
    let both = async {
        tokio::join!(connector.connect(name, client), acceptor.accept(server))
    };
    let (_, accepted) = timeout(LIMIT, both).await.expect("the handshake ends");
    let error = accepted.expect_err("the server refuses").to_string();
    assert_eq!(error, "peer doesn't support any known protocol");
}

#[tokio::test(start_paused = true)]
async fn alpn_leaves_one_version() {
    let (mut client, conn) = start(program::builder_for(Some(b"http/1.1")));
    client.write_all(&request(GET_2)).await.unwrap();
    let found = "invalid HTTP version parsed (found HTTP2 preface)";
    assert_eq!(end(conn).await, (0, Err(found.to_owned())));
    assert_eq!(all(&mut client).await, "");

    let (mut client, conn) = start(program::builder_for(Some(b"h2")));
    client.write_all(GET.as_bytes()).await.unwrap();
    let (_, result) = end(conn).await;
    let error = result.unwrap_err();
    assert!(error.ends_with("unspecific protocol error detected"), "{error}");
    assert!(!all(&mut client).await.contains("HTTP/1.1"));
}

#[tokio::test(start_paused = true)]
async fn with_alpn_the_clock_of_http1_starts_with_the_connection() {
    let (_client, conn) = start(program::builder_for(Some(b"http/1.1")));
    assert_eq!(end(conn).await, (head(), Err(IDLE.to_owned())));
    // HTTP/2 has no such clock.
    let (_client, conn) = start(program::builder_for(Some(b"h2")));
    assert_eq!(end(conn).await, (first_request(), Err(NO_REQUEST.to_owned())));
}

// How the version is found.

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_request_is_gone_within_the_limit() {
    for bytes in ["", "P", "PRI * HTTP/2.0\r\n", PREFACE] {
        let (mut client, conn) = start(program::builder_for(None));
        client.write_all(bytes.as_bytes()).await.unwrap();
        let expected = (first_request(), Err(NO_REQUEST.to_owned()));
        assert_eq!(end(conn).await, expected, "{bytes:?}");
    }
    // A byte now and then does not help.
    let (mut client, conn) = start(program::builder_for(None));
    tokio::spawn(async move {
        for byte in PREFACE.bytes() {
            sleep(Duration::from_secs(1)).await;
            client.write_all(&[byte]).await.ok();
        }
    });
    assert_eq!(end(conn).await, (first_request(), Err(NO_REQUEST.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn clients_that_have_sent_a_request_are_not_dropped_at_that_limit() {
    // A client over HTTP/2 that answers each PING.
    let (client, conn) = start(program::builder_for(None));
    let (mut client, driver) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    let get = || {
        Request::get("http://localhost:3000/").body(Empty::<Bytes>::new()).unwrap()
    };
    client.send_request(get()).await.unwrap();
    sleep(HOUR).await;
    assert_eq!(text(client.send_request(get()).await.unwrap()).await, VERSION_2);
    drop(client);
    assert_eq!(end(conn).await, (0, Ok(())));
    // A client over HTTP/1 that asks again before its head is due.
    let (mut client, conn) = start(program::builder_for(None));
    for _ in 0..100 {
        client.write_all(GET.as_bytes()).await.unwrap();
        sleep(Duration::from_secs(head() - 1)).await;
    }
    assert_eq!(all(&mut client).await.matches("200 OK").count(), 100);
    assert_eq!(end(conn).await, (0, Err(IDLE.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn the_version_is_unknown_as_long_as_the_bytes_are_those_of_the_preface() {
    let [length] = auto().numbers("reads up to {} bytes, the length of the preface");
    assert_eq!(length as usize, PREFACE.len());
    let undecided = &PREFACE[..PREFACE.len() - 1];
    for bytes in ["P", "PR", undecided] {
        let (mut client, conn) = start(program::builder());
        client.write_all(bytes.as_bytes()).await.unwrap();
        let expected = (first_request(), Err(NO_REQUEST.to_owned()));
        assert_eq!(end(conn).await, expected, "{bytes:?}");
        assert_eq!(all(&mut client).await, "", "{bytes:?}");
    }
    for bytes in ["G", "PO", "PUT", "PRO"] {
        let (mut client, conn) = start(program::builder());
        client.write_all(bytes.as_bytes()).await.unwrap();
        assert_eq!(end(conn).await, (head(), Err(IDLE.to_owned())), "{bytes:?}");
    }
    // The whole preface: the server answers with its settings.
    let (mut client, _conn) = start(program::builder());
    client.write_all(PREFACE.as_bytes()).await.unwrap();
    assert_eq!(read_frame(&mut client).await.unwrap().0, SETTINGS);
}

/// A stream that notes how many bytes each read gives.
struct Noting<T>(T, Arc<Mutex<Vec<usize>>>);

impl<T: AsyncRead + Unpin> AsyncRead for Noting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.0).poll_read(cx, buffer);
        if result.is_ready() {
            self.1.lock().unwrap().push(buffer.filled().len() - before);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noting<T> {
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
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn to_find_the_version_costs_a_small_read_at_the_start_of_a_connection() {
    let mut reads = Vec::new();
    for builder in [program::builder(), program::builder().http1_only()] {
        let (mut client, server) = duplex(64 * 1024);
        let noted = Arc::default();
        let conn =
            tokio::spawn(program::serve(Noting(server, Arc::clone(&noted)), builder));
        for _ in 0..2 {
            client.write_all(GET.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        drop(client);
        conn.await.unwrap().unwrap();
        reads.push(noted.lock().unwrap().clone());
    }
    let (preface, get) = (PREFACE.len(), GET.len());
    assert_eq!(reads, [vec![preface, get - preface, get, 0], vec![get, get, 0]]);
}

#[test]
fn upgrade_to_h2c_is_answered_over_http1() {
    let program = Program::start("auto");
    let mut connection = program.connect();
    for _ in 0..2 {
        connection.send(
            "GET / HTTP/1.1\r\nhost: localhost:3000\r\nconnection: Upgrade, HTTP2-Settings\r\n\
             upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
        );
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), "HTTP/1.1 200 OK");
        assert_eq!(answer.header("upgrade"), None);
        assert_eq!(answer.text(), VERSION_1);
    }
}

// One handler for both.

#[tokio::test(start_paused = true)]
async fn the_host_is_found_in_either_version() {
    let http1 =
        |head: &str| format!("{head}\r\nconnection: close\r\n\r\n").into_bytes();
    for (bytes, expected) in [
        (http1("GET / HTTP/1.1\r\nhost: one"), "HTTP/1.1 for one\n"),
        (http1("GET / HTTP/1.1\r\nhost: [::1]:3000"), "HTTP/1.1 for [::1]:3000\n"),
        (http1("GET / HTTP/1.0\r\nhost: one"), "HTTP/1.0 for one\n"),
        // A client of a proxy sends the whole URI, and that counts.
        (http1("GET http://two/ HTTP/1.1\r\nhost: one"), "HTTP/1.1 for two\n"),
        (request(GET_2), "HTTP/2.0 for x\n"),
        // hyper does not check that the two are the same.
        (request(b"\x82\x86\x84\x41\x01x\x00\x04host\x03one"), "HTTP/2.0 for x\n"),
        // Some proxies send a host header instead.
        (request(b"\x82\x86\x84\x00\x04host\x03one"), "HTTP/2.0 for one\n"),
    ] {
        let (mut client, _conn) = start(program::builder());
        client.write_all(&bytes).await.unwrap();
        let answer = all(&mut client).await;
        assert!(answer.contains(expected), "{expected:?} is not in {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_one_host_the_answer_is_400_though_hyper_accepts_the_request() {
    let http1 =
        |head: &str| format!("{head}\r\nconnection: close\r\n\r\n").into_bytes();
    for bytes in [
        http1("GET / HTTP/1.0"),
        http1("GET / HTTP/1.1"),
        http1("GET / HTTP/1.1\r\nhost:"),
        http1("GET / HTTP/1.1\r\nhost: one\r\nhost: one"),
        http1("GET / HTTP/1.1\r\nhost: one\r\nhost: two"),
        http1("GET / HTTP/1.1\r\nhost: one@two"),
        http1("GET http://one@two/ HTTP/1.1\r\nhost: one"),
        // Neither, two headers, and a user in the authority and in the header.
        request(b"\x82\x86\x84"),
        request(b"\x82\x86\x84\x00\x04host\x01x\x00\x04host\x01y"),
        request(b"\x82\x86\x84\x41\x03y@x"),
        request(b"\x82\x86\x84\x00\x04host\x03y@x"),
    ] {
        let text = String::from_utf8_lossy(&bytes);
        let (mut client, _conn) = start(program::builder());
        client.write_all(&bytes).await.unwrap();
        let sent = all(&mut client).await;
        assert!(sent.contains("400 Bad Request\n"), "{text:?} gets {sent:?}");
        // That answer is the program's own.
        let served = answer(new(), false, &bytes).await;
        assert!(served.contains("Hello, World!"), "{text:?} gets {served:?}");
    }
}

#[tokio::test]
async fn a_head_is_answered_without_a_body_in_either_version() {
    for builder in [program::builder_for(Some(b"h2")), program::builder_for(None)] {
        let second = !builder.is_http1_available();
        let (io, _conn) = start(builder);
        let request = Request::head("http://localhost:3000/")
            .header("host", "localhost:3000")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let io = TokioIo::new(io);
        let response = if second {
            let executor = TokioExecutor::new();
            let (mut client, driver) =
                hyper::client::conn::http2::handshake(executor, io).await.unwrap();
            tokio::spawn(driver);
            client.send_request(request).await
        } else {
            let (mut client, driver) =
                hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(driver);
            client.send_request(request).await
        };
        let response = response.expect("a client takes the answer to a HEAD");
        // The length of the answer to a GET.
        let length = response.headers()["content-length"].to_str().unwrap();
        assert_eq!(length.parse(), Ok(VERSION_1.len()));
        assert_eq!(text(response).await, "");
    }
}

// One version.

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, World!\n")))
}

/// What a server sends to a client that sends these bytes and then waits.
async fn answer(builder: Builder, upgrades: bool, bytes: &[u8]) -> String {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(bytes).await.unwrap();
    let io = TokioIo::new(server);
    if upgrades {
        let conn = builder.serve_connection_with_upgrades(io, service_fn(hello));
        tokio::spawn(conn.into_owned());
    } else {
        tokio::spawn(builder.serve_connection(io, service_fn(hello)).into_owned());
    }
    all(&mut client).await
}

#[tokio::test(start_paused = true)]
async fn one_version_only_works_without_upgrades_alone() {
    let served = |answer: &str| answer.contains("Hello, World!");
    let second = request(GET_2);
    for (builder, upgrades, http1, http2) in [
        (new(), false, true, true),
        (new().http1_only(), false, true, false),
        (new().http2_only(), false, false, true),
        (new(), true, true, true),
        // Here they do nothing.
        (new().http1_only(), true, true, true),
        (new().http2_only(), true, true, true),
    ] {
        let answer_1 = answer(builder.clone(), upgrades, GET.as_bytes()).await;
        let answer_2 = answer(builder.clone(), upgrades, &second).await;
        let asked = format!("{builder:?}, upgrades: {upgrades}");
        assert_eq!(served(&answer_1), http1, "HTTP/1: {asked}");
        assert_eq!(served(&answer_2), http2, "HTTP/2: {asked}");
    }
}

#[test]
fn a_second_only_panics() {
    type Only = fn(Builder) -> Builder;
    let both: [Only; 2] = [Builder::http1_only, Builder::http2_only];
    for first in both {
        for second in both {
            let panic = std::panic::catch_unwind(|| drop(second(first(new()))));
            let panic = panic.expect_err("the second one panics");
            let text = panic.downcast_ref::<&str>().unwrap();
            assert!(text.contains("self.version.is_none()"), "{text}");
        }
    }
}

// The options.

#[tokio::test(start_paused = true)]
async fn a_timer_is_for_one_version_alone() {
    let five = Duration::from_secs(5);
    // It panics where a limit is set and its version has no timer.
    let mut first = new();
    first.http1().header_read_timeout(five);
    first.http2().timer(TokioTimer::new());
    let mut second = new();
    second.http1().timer(TokioTimer::new());
    second.http2().keep_alive_interval(five);
    for (builder, bytes, message) in [
        (first, "GET", "timeout `header_read_timeout` set, but no timer set"),
        (second, PREFACE, "You must supply a timer."),
    ] {
        let (mut client, conn) = start(builder);
        client.write_all(bytes.as_bytes()).await.unwrap();
        let panic = conn.await.expect_err("a panic").into_panic();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        assert_eq!(text.or(panic.downcast_ref::<&str>().copied()), Some(message));
    }
    // Other limits need none.
    let mut others = new();
    others.http1().max_headers(50).max_buf_size(8192);
    others.http2().max_concurrent_streams(5).keep_alive_timeout(five);
    for bytes in [GET.as_bytes(), &request(GET_2)] {
        let sent = answer(others.clone(), false, bytes).await;
        assert!(sent.contains("Hello, World!"), "{sent:?}");
    }
    // Where none is set, HTTP/1 has its default only if it has the timer.
    for (timer, stays) in [(false, true), (true, false)] {
        let mut builder = new();
        builder.http2().timer(TokioTimer::new());
        if timer {
            builder.http1().timer(TokioTimer::new());
        }
        let (mut client, server) = duplex(1024);
        client.write_all(b"GET").await.unwrap();
        let conn = builder.serve_connection(TokioIo::new(server), service_fn(hello));
        assert_eq!(timeout(HOUR, conn).await.is_err(), stays);
    }
}

/// The options that `auto` does not have. If it gets one, the method of `auto` is called here instead,
/// and this does not compile: then change the page.
trait Missing {
    fn max_header_size(&mut self) {}
    fn allow_multiple_spaces_in_request_line_delimiters(&mut self) {}
    fn header_table_size(&mut self) {}
}

impl Missing for auto::Http1Builder<'_, TokioExecutor> {}
impl Missing for auto::Http2Builder<'_, TokioExecutor> {}

#[test]
fn auto_lacks_three_options() {
    let mut builder = new();
    builder.http1().max_header_size();
    builder.http1().allow_multiple_spaces_in_request_line_delimiters();
    builder.http2().header_table_size();
    // The builders behind it have them.
    hyper::server::conn::http1::Builder::new()
        .max_header_size(8192)
        .allow_multiple_spaces_in_request_line_delimiters(true);
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .header_table_size(4096);
}

#[tokio::test(start_paused = true)]
async fn a_chain_may_end_in_await() {
    let (mut client, server) = duplex(1024);
    client.write_all(GET.as_bytes()).await.unwrap();
    let conn = tokio::spawn(async {
        new()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(1))
            .http2()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(server), service_fn(hello))
            .await
            .map_err(|error| error.to_string())
    });
    assert_eq!(end(conn).await, (1, Err(IDLE.to_owned())));
    assert!(all(&mut client).await.ends_with("Hello, World!\n"));
}

#[test]
fn options_by_value_and_by_reference() {
    // As the page says: these two take the builder, the others a reference.
    let mut builder = new().title_case_headers(true).preserve_header_case(true);
    builder.http1().title_case_headers(true).preserve_header_case(true);
}

// Upgrades.

#[tokio::test(start_paused = true)]
async fn upgrades_need_their_own_method() {
    let outcome = async |upgrades: bool| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let service = service_fn(move |request: Request<Incoming>| {
            let sender = sender.lock().unwrap().take().unwrap();
            async move {
                tokio::spawn(async move {
                    let stream = hyper::upgrade::on(request).await.map(|upgraded| {
                        // hyper does not find the stream, hyper-util does.
                        let upgraded =
                            upgraded.downcast::<TokioIo<DuplexStream>>().unwrap_err();
                        let parts = auto::upgrade::downcast::<TokioIo<DuplexStream>>(
                            upgraded,
                        )
                        .expect("the stream");
                        assert_eq!(parts.read_buf, "hi");
                    });
                    sender.send(stream.map_err(|e| program::report(&e))).ok();
                });
                Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header("connection", "upgrade")
                    .header("upgrade", "x")
                    .body(Empty::<Bytes>::new())
            }
        });
        let (mut client, server) = duplex(1024);
        let io = TokioIo::new(server);
        if upgrades {
            let conn = new().serve_connection_with_upgrades(io, service).into_owned();
            tokio::spawn(async { conn.await.unwrap() });
        } else {
            let conn = new().serve_connection(io, service).into_owned();
            tokio::spawn(async { conn.await.ok() });
        }
        // With the first bytes of the other protocol.
        let ask = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhi";
        client.write_all(ask.as_bytes()).await.unwrap();
        timeout(HOUR, receiver).await.expect("an outcome").unwrap()
    };
    assert_eq!(outcome(true).await, Ok(()));
    assert_eq!(
        outcome(false).await,
        Err("upgrade expected but low level API in use".to_owned())
    );
}

// A shutdown.

#[tokio::test(start_paused = true)]
async fn a_shutdown_before_the_version_is_known_ends_the_connection_with_cancelled() {
    for bytes in ["", "P"] {
        let (mut client, server) = duplex(1024);
        client.write_all(bytes.as_bytes()).await.unwrap();
        let builder = program::builder();
        let mut conn =
            pin!(builder.serve_connection(TokioIo::new(server), service_fn(hello)));
        timeout(Duration::from_secs(1), conn.as_mut()).await.unwrap_err();
        conn.as_mut().graceful_shutdown();
        let error = conn.await.unwrap_err();
        assert_eq!(error.to_string(), "Cancelled");
        let kind = error.downcast_ref::<io::Error>().unwrap().kind();
        assert_eq!(kind, io::ErrorKind::Interrupted);
        assert!(program::is_routine(&error));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_agreed_on_h2_and_sends_nothing_holds_a_shutdown() {
    let (mut _client, server) = duplex(1024);
    let builder = program::builder_for(Some(b"h2"));
    let mut conn =
        pin!(builder.serve_connection(TokioIo::new(server), service_fn(hello)));
    timeout(Duration::from_secs(1), conn.as_mut()).await.unwrap_err();
    conn.as_mut().graceful_shutdown();
    // Nothing but the limit of the program ends this.
    timeout(HOUR, conn).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn only_http2_only_answers_what_came_before_a_shutdown_and_was_not_read() {
    let second = request(GET_2);
    let cancelled = Err("Cancelled".to_owned());
    for (builder, bytes, answered, expected) in [
        (new(), GET.as_bytes(), false, cancelled.clone()),
        (new(), &second, false, cancelled),
        (new().http1_only(), GET.as_bytes(), false, Ok(())),
        (new().http2_only(), &second, true, Ok(())),
    ] {
        let (mut client, server) = duplex(64 * 1024);
        client.write_all(bytes).await.unwrap();
        let conn = builder.serve_connection(TokioIo::new(server), service_fn(hello));
        let mut conn = Box::pin(conn.into_owned());
        conn.as_mut().graceful_shutdown();
        let conn =
            tokio::spawn(async { conn.await.map_err(|error| error.to_string()) });
        let mut answer = [0; 1024];
        let mut received = String::new();
        // Reads until the server is done, and then leaves.
        while let Ok(Ok(count @ 1..)) =
            timeout(Duration::from_secs(1), client.read(&mut answer)).await
        {
            received += &String::from_utf8_lossy(&answer[..count]);
        }
        drop(client);
        assert_eq!(
            received.contains("Hello, World!"),
            answered,
            "{builder:?}: {received}"
        );
        assert_eq!(end(conn).await, (0, expected), "{builder:?}");
    }
}

// Errors.

/// What a connection of the program ends with, whose client sends this and then resets it.
async fn reset_after(bytes: &[u8]) -> program::Error {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client =
        tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let noted = Arc::<Mutex<Vec<usize>>>::default();
    let server = Noting(server, noted.clone());
    let conn = tokio::spawn(program::serve(server, program::builder()));
    client.write_all(bytes).await.unwrap();
    let read = async {
        while noted.lock().unwrap().iter().sum::<usize>() < bytes.len() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, read).await.expect("the server reads");
    client.set_zero_linger().unwrap();
    drop(client);
    timeout(LIMIT, conn).await.expect("the connection ends").unwrap().unwrap_err()
}

#[tokio::test]
async fn a_client_that_resets_its_connection_is_routine() {
    for (bytes, error, known) in [
        ("", "Connection reset by peer", false),
        ("P", "Connection reset by peer", false),
        ("GET / HTTP/1.1\r\n", "connection error: Connection reset by peer", true),
        (PREFACE, "connection error: connection reset", true),
    ] {
        let ended = reset_after(bytes.as_bytes()).await;
        let text = program::report(&*ended);
        assert!(text.starts_with(error), "{bytes:?}: {text}");
        assert_eq!(ended.is::<hyper::Error>(), known, "{bytes:?}");
        assert_eq!(ended.is::<io::Error>(), !known, "{bytes:?}");
        assert!(program::is_routine(&ended), "{bytes:?}: {text}");
    }
}

/// A body that fails as a file may.
struct Broken;

impl Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Err(io::Error::other("the disk is broken"))))
    }
}

#[tokio::test(start_paused = true)]
async fn other_ends_are_routine_or_not() {
    let ended = async |bytes: &[u8], close: bool| {
        let (mut client, server) = duplex(64 * 1024);
        client.write_all(bytes).await.unwrap();
        if close {
            client.shutdown().await.unwrap();
        }
        let result = timeout(HOUR, program::serve(server, program::builder())).await;
        let error = result.expect("it ends").expect_err("an error");
        (program::report(&*error), program::is_routine(&error))
    };
    let with = |text: &str, routine| (text.to_owned(), routine);
    let gone = "connection closed before message completed";
    assert_eq!(ended(b"GET / ", true).await, with(gone, true));
    assert_eq!(ended(b"P", true).await, with(gone, true));
    assert_eq!(ended(GET.as_bytes(), false).await, with(IDLE, true));
    let silent = "http2 error: keep-alive timed out: operation timed out";
    assert_eq!(ended(&request(GET_2), false).await, with(silent, true));
    assert_eq!(ended(b"", false).await, with(NO_REQUEST, true));
    assert_eq!(ended(PREFACE.as_bytes(), false).await, with(NO_REQUEST, true));
    // What TLS begins with.
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert_eq!(ended(tls, false).await, with("invalid HTTP method parsed", false));
    // A body that is longer than its content-length.
    let long = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{\"a\":1}";
    assert_eq!(ended(long, false).await, with("invalid HTTP method parsed", false));

    // A body that fails, a service that fails, and a client that leaves during the answer.
    let failed = async |outcome: fn() -> io::Result<BoxBody<Bytes, io::Error>>| {
        let (mut client, server) = duplex(1024);
        client.write_all(GET.as_bytes()).await.unwrap();
        let service = service_fn(move |_: Request<Incoming>| async move {
            outcome().map(Response::new)
        });
        let builder = program::builder();
        let conn = builder.serve_connection(TokioIo::new(server), service);
        let leave = async {
            sleep(Duration::from_secs(1)).await;
            drop(client);
        };
        let (result, ()) = tokio::join!(conn, leave);
        let error = result.expect_err("an error");
        (program::report(&*error), program::is_routine(&error))
    };
    assert_eq!(
        failed(|| Ok(Broken.boxed())).await,
        with("error from user's Body stream: the disk is broken", false)
    );
    assert_eq!(
        failed(|| Err(io::Error::other("the disk is broken"))).await,
        with("error from user's Service: the disk is broken", false)
    );
    let large =
        || Ok(Full::from(vec![b'.'; 64 * 1024]).map_err(|no| match no {}).boxed());
    assert_eq!(failed(large).await, with(gone, true));
}

/// What a service fails with whose own client of HTTP/2 had a timeout.
async fn timed_out() -> program::Error {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(&request(GET_2)).await.unwrap();
    let error = program::serve(server, program::builder()).await.unwrap_err();
    assert!(error.downcast_ref::<hyper::Error>().unwrap().is_timeout());
    error
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_by_a_timeout_is_not_routine() {
    let (mut client, server) = duplex(1024);
    client.write_all(GET.as_bytes()).await.unwrap();
    let service = service_fn(async |_: Request<Incoming>| {
        Err::<Response<Full<Bytes>>, _>(timed_out().await)
    });
    let builder = program::builder();
    let conn = builder.serve_connection(TokioIo::new(server), service);
    let error = timeout(HOUR, conn).await.expect("it ends").expect_err("an error");
    let found = error.downcast_ref::<hyper::Error>().unwrap();
    // Both: it is not enough to ask is_timeout.
    assert!(found.is_user() && found.is_timeout(), "{}", program::report(&*error));
    assert!(!program::is_routine(&error), "{}", program::report(&*error));
}

#[tokio::test(start_paused = true)]
async fn over_http2_a_service_that_fails_ends_its_stream_alone() {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(&request(GET_2)).await.unwrap();
    let second = frame(HEADERS, END_HEADERS_AND_STREAM, 3, GET_2);
    client.write_all(&second).await.unwrap();
    let count = AtomicUsize::new(0);
    let service = service_fn(move |_: Request<Incoming>| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                return Err(io::Error::other("the disk is broken"));
            }
            Ok(Response::new(Full::<Bytes>::from("Hello, World!\n")))
        }
    });
    let builder = program::builder_for(Some(b"h2"));
    let conn = builder.serve_connection(TokioIo::new(server), service).into_owned();
    let conn = tokio::spawn(async { conn.await.map_err(|error| error.to_string()) });
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let frame = timeout(LIMIT, read_frame(&mut client)).await;
        let (kind, stream, _) = frame.expect("a frame").unwrap();
        if kind == RST_STREAM || kind == HEADERS {
            seen.push((kind, stream));
        }
    }
    seen.sort();
    assert_eq!(seen, [(HEADERS, 3), (RST_STREAM, 1)]);
    drop(client);
    assert_eq!(end(conn).await, (0, Ok(())), "the server gets no error");
}

#[test]
fn routine_ends_are_not_logged() {
    let mut program = Program::start("auto");
    for _ in 0..20 {
        let mut connection = program.connect();
        connection.send("GET / HT");
        drop(connection);
        TcpStream::connect(program.address).unwrap();
    }
    let mut connection = program.connect();
    connection.send("\x16\x03\x01\r\n\r\n");
    assert!(connection.rest().unwrap().starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert_eq!(program.line(), "connection failed: invalid HTTP method parsed");
    // The others have ended too, and printed nothing.
    program.signal("TERM");
    assert_eq!(program.wait().1, [""; 0]);
}

#[tokio::test]
async fn a_join_set_keeps_the_tasks_that_have_ended() {
    let mut connections = JoinSet::new();
    for _ in 0..3 {
        let ended = connections.spawn(async {});
        while !ended.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(connections.len(), 3);
    while connections.join_next().await.is_some() {}
    assert_eq!(connections.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_http2_client_is_found_by_its_missing_answer() {
    let (mut client, conn) = start(program::builder());
    client.write_all(&request(GET_2)).await.unwrap();
    let silent = "http2 error: keep-alive timed out: operation timed out";
    let limit = program::PING_AFTER + program::PING_ANSWER;
    assert_eq!(end(conn).await, (limit.as_secs(), Err(silent.to_owned())));
    // The last thing that it gets says so.
    let mut last = 0;
    while let Ok((kind, ..)) = read_frame(&mut client).await {
        last = kind;
    }
    assert_eq!(last, GOAWAY);
}
