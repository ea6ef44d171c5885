//! What src/client/failures.md promises.

use std::error::Error;
use std::fs;
use std::future::{Future, pending, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{
    Connect, Connected, Connection, HttpConnector,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};
use tower::service_fn;

use harness::{Program, Prose, Server, page};

use super::retries::{DATA, HEADERS, NINE_BYTES, answer, frame, reset};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/failures.rs"]
mod program;

fn failures() -> Prose {
    page("client/failures")
}

fn connect_limit() -> u64 {
    failures().number("A connection that is not ready after {} seconds is given up")
}

fn head_limit() -> u64 {
    failures().number("the head of the response must be there after {} seconds")
}

fn pause_limit() -> u64 {
    failures().number("a pause of {} seconds in the body ends it")
}

fn total_limit() -> u64 {
    failures().number("After {} seconds everything ends")
}

// In memory, on a clock that the tests move.

/// One end of an in-memory connection, as a connector returns it; and whether HTTP/2 was
/// negotiated on it.
pub struct Memory(TokioIo<DuplexStream>, bool);

impl Memory {
    /// A connection, and its other end for the server.
    pub fn pair() -> (Memory, DuplexStream) {
        Memory::negotiated(false)
    }

    /// The same, with HTTP/2 negotiated or not.
    pub fn negotiated(h2: bool) -> (Memory, DuplexStream) {
        let (client, server) = duplex(64 * 1024);
        (Memory(TokioIo::new(client), h2), server)
    }
}

impl Connection for Memory {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.1 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Memory {
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

/// Reads the head of a request.
pub async fn read_head(stream: &mut DuplexStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

/// A client of the program whose connections `serve` answers.
fn client<S, F>(serve: S) -> Client<impl Connect + Clone, Empty<Bytes>>
where
    S: Fn(DuplexStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let connector = program::in_time(service_fn(move |_: Uri| {
        let (client, server) = Memory::pair();
        tokio::spawn(serve(server));
        async { Ok::<_, io::Error>(client) }
    }));
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Runs this on a clock that stands still while something can run, and says how long it took.
fn paused<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        (future.await, start.elapsed())
    })
}

/// An address to which no connection gets ready, and what keeps it so: the queue of its socket has
/// room for one connection, and that is there.
#[cfg(target_os = "linux")]
pub fn nobody_accepts() -> (String, (Socket, std::net::TcpStream)) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let first = std::net::TcpStream::connect(address).unwrap();
    (format!("http://{address}/"), (socket, first))
}

fn uri() -> Uri {
    Uri::from_static("http://server.test/")
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Asserts that a limit fired, and when.
fn gives_up(
    result: (Result<Vec<u8>, tower::BoxError>, Duration),
    text: &str,
    after: u64,
) {
    let (result, took) = result;
    let error = result.expect_err(&format!("it should fail: {text}"));
    assert_eq!(chain(&*error), text);
    let after = seconds(after);
    assert!(
        (after..after + Duration::from_millis(10)).contains(&took),
        "it ends after {took:?}, not {after:?}"
    );
}

/// An error with its causes.
pub fn chain(error: &dyn Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn the_connect_limit_fires() {
    let result = paused(async {
        let connector =
            program::in_time(service_fn(|_: Uri| pending::<io::Result<Memory>>()));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        program::fetch(&client, uri(), program::TOTAL).await
    });
    gives_up(result, "client error (Connect): request timed out", connect_limit());
}

#[test]
fn the_connectors_own_limit_does_not_cover_the_resolver() {
    failures().says("covers TCP alone");
    paused(async {
        let resolver =
            service_fn(|_: Name| pending::<io::Result<std::vec::IntoIter<_>>>());
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.set_connect_timeout(Some(seconds(1)));
        let client: Client<_, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).build(connector);
        timeout(seconds(3600), client.get(uri())).await.expect_err(
            "set_connect_timeout now covers the resolver: say so on the page",
        );
    });
}

#[test]
fn the_limit_for_the_head_fires() {
    let result = paused(async {
        let client = client(|mut server| async move {
            read_head(&mut server).await;
            pending().await
        });
        program::fetch(&client, uri(), program::TOTAL).await
    });
    gives_up(result, "no response within 10s", head_limit());
}

#[test]
fn the_limit_for_a_pause_in_the_body_fires() {
    let result = paused(async {
        let client = client(|mut server| async move {
            read_head(&mut server).await;
            server
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")
                .await
                .unwrap();
            pending().await
        });
        program::fetch(&client, uri(), program::TOTAL).await
    });
    gives_up(result, "nothing of the body for 5s", pause_limit());
}

#[test]
fn a_body_that_trickles_passes_every_pause_and_meets_the_total_limit() {
    let result = paused(async {
        let client = client(|mut server| async move {
            read_head(&mut server).await;
            server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while server.write_all(b"x").await.is_ok() {
                sleep(seconds(pause_limit() - 1)).await;
            }
        });
        program::fetch(&client, uri(), program::TOTAL).await
    });
    gives_up(result, "not finished within 30s", total_limit());
}

#[test]
fn a_slow_response_within_the_limits_arrives() {
    let (body, _) = paused(async {
        let client = client(|mut server| async move {
            read_head(&mut server).await;
            sleep(seconds(head_limit() - 1)).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
            server.write_all(head).await.unwrap();
            for byte in [b"o", b"k"] {
                sleep(seconds(pause_limit() - 1)).await;
                server.write_all(byte).await.unwrap();
            }
        });
        program::fetch(&client, uri(), program::TOTAL).await
    });
    assert_eq!(body.expect("each wait is short enough"), b"ok");
}

#[test]
fn the_total_limit_covers_the_connect() {
    let result = paused(async {
        let connector =
            program::in_time(service_fn(|_: Uri| pending::<io::Result<Memory>>()));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        program::fetch(&client, uri(), seconds(1)).await
    });
    gives_up(result, "not finished within 1s", 1);
}

#[test]
fn a_connect_in_the_background_ends_with_the_connect_limit() {
    failures().says("lets the connect go on in the background");
    let (took, _) = paused(async {
        let (ended, mut end) = tokio::sync::mpsc::channel::<()>(1);
        let number = Arc::new(AtomicU32::new(0));
        let connector = program::in_time(service_fn(move |_: Uri| {
            let (client, mut server) = Memory::pair();
            let (first, ended) = (number.fetch_add(1, Relaxed) == 0, ended.clone());
            tokio::spawn(async move {
                loop {
                    read_head(&mut server).await;
                    sleep(seconds(1)).await;
                    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    server.write_all(response).await.unwrap();
                }
            });
            async move {
                if !first {
                    let _ended = ended;
                    pending::<()>().await;
                }
                Ok::<_, io::Error>(client)
            }
        }));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let start = Instant::now();
        let (first, second) = tokio::join!(
            program::fetch(&client, uri(), program::TOTAL),
            program::fetch(&client, uri(), seconds(3))
        );
        first.unwrap();
        second.expect("it uses the connection of the first");
        assert_eq!(start.elapsed().as_secs(), 2, "the requests have ended");
        drop(client);
        end.recv().await;
        start.elapsed()
    });
    assert_eq!(took.as_secs(), connect_limit());
}

/// A client of the program over HTTP/2, whose first request is answered with these frames.
fn http2(frames: Vec<u8>) -> Client<impl Connect + Clone, Empty<Bytes>> {
    let connector = program::in_time(service_fn(move |_: Uri| {
        let ((client, mut server), frames) = (Memory::pair(), frames.clone());
        tokio::spawn(async move {
            answer(&mut server, &frames).await;
            pending::<()>().await
        });
        async { Ok::<_, io::Error>(client) }
    }));
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}

#[test]
fn a_reset_without_an_error_is_the_end_of_a_body_for_hyper_and_not_for_the_program() {
    let frames = || {
        [
            frame(HEADERS, 4, 1, NINE_BYTES),
            frame(DATA, 0, 1, b"hi"),
            reset(h2::Reason::NO_ERROR),
        ]
        .concat()
    };
    paused(async {
        let response = http2(frames()).get(uri()).await.unwrap();
        assert_eq!(response.headers()["content-length"], "9");
        let body = http_body_util::BodyExt::collect(response.into_body()).await;
        let body = body.expect("hyper now reports it: say so on the page");
        assert_eq!(body.to_bytes(), "hi");
    });
    let result = paused(async {
        program::fetch(&http2(frames()), uri(), program::TOTAL).await
    });
    gives_up(result, "the body ended 7 bytes early", 0);
}

#[test]
fn the_response_to_a_head_announces_a_body_that_does_not_come() {
    failures().says("The response to a HEAD, and a 304, may announce a length");
    paused(async {
        let client = http2(frame(HEADERS, 5, 1, NINE_BYTES));
        let head = hyper::Request::head(uri()).body(Empty::new()).unwrap();
        let mut body = client.request(head).await.unwrap().into_body();
        assert!(http_body_util::BodyExt::frame(&mut body).await.is_none());
        assert_eq!(hyper::body::Body::size_hint(&body).lower(), 9);
    });
}

#[test]
fn a_whole_body_over_http2_arrives() {
    let frames = [frame(HEADERS, 4, 1, NINE_BYTES), frame(DATA, 1, 1, b"nine long")];
    let (body, _) = paused(async {
        program::fetch(&http2(frames.concat()), uri(), program::TOTAL).await
    });
    assert_eq!(body.unwrap(), b"nine long");
}

#[test]
fn the_port_of_a_url() {
    for url in [
        "http://a",
        "http://a:80/b",
        "http://9/",
        "http://[::1]/",
        "http://[::1]:3000/",
        "http://user:password@a/",
        "http://user:99999@a:65535/",
        // RFC 3986, section 3.2.3: the default one.
        "http://a:/",
        "/path",
    ] {
        let checked = program::check_port(&url.parse().unwrap());
        checked.unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    let most = page("client/failures").number("the port is not a number up to {}");
    assert_eq!(most, u64::from(u16::MAX));
    for url in ["http://a:99999/", "http://[::1]:65536", "http://b@a:99999/"] {
        let error = program::check_port(&url.parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("the port is not a number up to {most}"), "{url}");
    }
}

#[test]
fn hyper_takes_a_port_that_is_too_large_for_none() {
    let server = Server::start();
    let url: Uri = "http://server.test:99999/".parse().expect("a Uri like others");
    assert_eq!(url.port_u16(), None);
    let address = server.address;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // The port of a resolver counts only if the URL has none.
    let resolver =
        service_fn(move |_: Name| ready(Ok::<_, io::Error>([address].into_iter())));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new())
        .build(HttpConnector::new_with_resolver(resolver));
    runtime.spawn(client.get(url));
    let head = server.accept().head().unwrap();
    assert_eq!(head, "GET / HTTP/1.1\r\nhost: server.test\r\n\r\n");
}

// On the running program.

/// Runs the program to its end; its status, and what it prints.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let (status, lines) = Program::client("failures", arguments).wait();
    (status.code(), lines.join("\n"))
}

/// What the program prints about a server that reads its request, sends these bytes and closes.
fn answered_by(bytes: &'static [u8]) -> String {
    let server = Server::start();
    let url = server.url("/");
    let mut program = Program::client("failures", &[&url]);
    let mut connection = server.accept();
    connection.head().unwrap();
    connection.send(bytes);
    drop(connection);
    let (status, lines) = program.wait();
    assert_eq!(status.code(), Some(1), "{lines:?}");
    lines.join("\n")
}

#[test]
fn it_prints_the_body() {
    let server = Server::start();
    let mut program = Program::client("failures", &[&server.url("/hello?a=b")]);
    let mut connection = server.accept();
    let head = connection.head().unwrap();
    assert_eq!(
        head,
        format!("GET /hello?a=b HTTP/1.1\r\nhost: {}\r\n\r\n", server.address)
    );
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let (status, lines) = program.wait();
    assert_eq!((status.code(), lines), (Some(0), vec!["hello".to_owned()]));
}

#[test]
fn its_second_argument_is_the_total_limit_and_the_server_sees_a_close() {
    let server = Server::start();
    let mut program = Program::client("failures", &[&server.url("/"), "1"]);
    let mut connection = server.accept();
    connection.head().unwrap();
    let (status, lines) = program.wait();
    assert_eq!(lines, ["not finished within 1s"]);
    assert_eq!(status.code(), Some(1));
    assert_eq!(connection.rest().unwrap(), "");
}

#[test]
fn errors_before_a_connection() {
    // Bound, and not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let refused = format!("http://{address}/");
    for (url, text) in [
        (
            &*refused,
            "client error (Connect): tcp connect error: Connection refused (os error 111)",
        ),
        (
            "https://127.0.0.1:1/",
            "client error (Connect): invalid URL, scheme is not http",
        ),
        ("/path", "client error (UserAbsoluteUriRequired)"),
        (
            "http://127.0.0.1:99999/",
            "the port is not a number up to 65535",
        ),
    ] {
        let (status, lines) = run(&[url]);
        assert_eq!((status, &*lines), (Some(1), text), "{url}");
    }
    let (_, lines) = run(&["http://no-such-host.invalid/"]);
    let text =
        "client error (Connect): dns error: failed to lookup address information";
    assert!(lines.starts_with(text), "{lines}");
}

#[test]
fn a_close_before_the_response() {
    let text =
        "client error (SendRequest): connection closed before message completed";
    assert_eq!(answered_by(b""), text);
    assert_eq!(answered_by(b"HTTP/1.1 200 OK\r\ncontent-le"), text);
}

#[test]
fn a_close_with_data_that_the_server_has_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut program = Program::client("failures", &[&url]);
    let (stream, _) = listener.accept().unwrap();
    // The request stays in the socket. A close then is a reset.
    stream.peek(&mut [0]).unwrap();
    drop(stream);
    assert_eq!(
        program.line(),
        "client error (SendRequest): connection error: Connection reset by peer (os error 104)"
    );
    program.wait();
}

#[test]
fn no_http_server() {
    let text = "client error (SendRequest): invalid HTTP version parsed";
    assert_eq!(answered_by(b"SSH-2.0-OpenSSH_9.9\r\n"), text);
    // A TLS alert, as a port that expects TLS sends it.
    assert_eq!(answered_by(b"\x15\x03\x01\x00\x02\x02\x46"), text);
}

#[test]
fn a_body_that_is_cut() {
    assert_eq!(
        answered_by(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"),
        "error reading a body from connection: end of file before message length reached"
    );
    assert_eq!(
        answered_by(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"
        ),
        "error reading a body from connection: unexpected EOF during chunk size line"
    );
}

#[test]
fn a_cut_body_that_has_no_length_is_no_error() {
    let server = Server::start();
    let mut program = Program::client("failures", &[&server.url("/")]);
    let mut connection = server.accept();
    connection.head().unwrap();
    connection.send("HTTP/1.1 200 OK\r\n\r\nhalf of it");
    drop(connection);
    let (status, lines) = program.wait();
    assert_eq!((status.code(), lines), (Some(0), vec!["half of it".to_owned()]));
}

#[test]
fn a_body_that_is_too_long() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Server::start();
    let mut program = Program::client("failures", &[&server.url("/")]);
    let mut connection = server.accept();
    connection.head().unwrap();
    connection.send(head);
    let chunk = vec![b'x'; program::MAX_BODY];
    connection.send(format!("{:x}\r\n", chunk.len()));
    connection.send(&chunk);
    connection.send("\r\n1\r\nx\r\n");
    assert_eq!(program.line(), "length limit exceeded");
    assert_eq!(program.wait().0.code(), Some(1));
}

/// A client of the test itself, and the error of its request to a server that sends these bytes
/// and closes.
fn error_after(bytes: &'static [u8]) -> tower::BoxError {
    let (result, _) = paused(async {
        let client = client(move |mut server| async move {
            read_head(&mut server).await;
            server.write_all(bytes).await.unwrap();
        });
        program::fetch(&client, uri(), program::TOTAL).await
    });
    result.expect_err("the response is not whole")
}

#[test]
fn the_debug_form_of_an_incomplete_message() {
    let error = error_after(b"");
    let text = "hyper_util::client::legacy::Error(SendRequest, hyper::Error(IncompleteMessage))";
    assert_eq!(format!("{error:?}"), text);
}

#[test]
fn a_cut_body_is_an_io_error_and_nothing_else() {
    let error = error_after(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi");
    let error = error.downcast_ref::<hyper::Error>().expect("the body's error");
    assert!(
        !(error.is_incomplete_message()
            || error.is_closed()
            || error.is_canceled()
            || error.is_timeout()
            || error.is_parse()
            || error.is_user())
    );
    let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(io.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_timeout_around_the_client_ends_with_the_head() {
    failures().says("both end with the head of the response");
    paused(async {
        let client = client(|mut server| async move {
            read_head(&mut server).await;
            server
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")
                .await
                .unwrap();
            pending().await
        });
        let service = tower::timeout::Timeout::new(client, seconds(1));
        let request = hyper::Request::get(uri()).body(Empty::new()).unwrap();
        let response = tower::ServiceExt::oneshot(service, request).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body());
        timeout(seconds(3600), body).await.expect_err("no limit covers the body");
    });
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_answers_and_trickles() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("long"), vec![b'x'; 100_000]).unwrap();
    fs::write(folder.path().join("short"), "short").unwrap();
    let nginx = Program::nginx(
        folder.path(),
        "server { listen 127.0.0.1:PORT; root .; location /long { limit_rate 100; } }",
    );
    let url = format!("http://{}", nginx.address);
    assert_eq!(run(&[&format!("{url}/short")]), (Some(0), "short".to_owned()));
    let (status, lines) = run(&[&format!("{url}/long"), "1"]);
    assert_eq!((status, &*lines), (Some(1), "not finished within 1s"));
}
