//! What src/server/proxy.md promises.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::http::uri::Authority;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant, sleep};

use super::limits::frame;
use harness::{Connection, LIMIT, Program, Prose, cargo, page, wait};

/// The program itself, for tests with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/proxy.rs"]
mod program;

use program::Proxy;

fn proxies() -> Prose {
    page("server/proxy")
}

/// The proxy, in front of these backends.
pub fn start(backends: &[SocketAddr]) -> Program {
    start_behind("", backends)
}

/// The same, behind these proxies that it trusts.
pub fn start_behind(trusted: &str, backends: &[SocketAddr]) -> Program {
    let backends: Vec<_> = backends.iter().map(ToString::to_string).collect();
    // The address comes first.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$2\" $1"]);
    command.arg(cargo::program("proxy")).arg(backends.join(" "));
    command.env("TRUSTED_PROXIES", trusted);
    Program::listen(command)
}

/// A backend that the test plays itself.
pub struct Backend {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Backend {
    pub fn listen() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        Backend { listener, address }
    }

    /// The next connection.
    pub fn accept(&self) -> TcpStream {
        let mut accepted = None;
        wait("a connection to the backend", || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    }

    pub fn accepted(&self) -> Connection {
        Connection::new(self.accept())
    }

    /// Whether nobody is connecting.
    fn is_alone(&self) -> bool {
        self.listener.accept().is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
    }
}

/// A port where nobody listens.
fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn ok(connection: &mut Connection, text: &str) {
    let length = text.len();
    connection
        .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"));
}

/// The lines of a head, sorted, but for those that are not about this.
pub fn header<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

/// The most memory that a process has had, in MB.
fn peak(program: &Program) -> usize {
    let status =
        fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[test]
fn bodies_pass_in_both_directions_in_a_few_megabytes_of_memory() {
    const SIZE: usize = 64 * 1024 * 1024;
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let before = peak(&proxy);
    let mut client = TcpStream::connect(proxy.address).unwrap();
    let (mut uploading, downloading) =
        (client.try_clone().unwrap(), backend_download(&backend, SIZE));
    thread::scope(|scope| {
        scope.spawn(move || {
            let head = format!(
                "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {SIZE}\r\n\r\n"
            );
            uploading.write_all(head.as_bytes()).unwrap();
            let piece = vec![b'.'; 64 * 1024];
            (0..SIZE / piece.len())
                .for_each(|_| uploading.write_all(&piece).unwrap());
        });
        scope.spawn(downloading);
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        while total < SIZE {
            let count = client.read(&mut buffer).unwrap();
            assert!(count > 0, "the response is whole");
            total += count;
        }
    });
    let grown = peak(&proxy) - before;
    assert!(grown < 16, "the proxy has grown by {grown} MB");
}

/// Reads an upload of this size, and then sends as much to a client that does not read at first.
fn backend_download(backend: &Backend, size: usize) -> impl FnOnce() + Send + use<> {
    let listener = backend.listener.try_clone().unwrap();
    let backend = Backend { listener, address: backend.address };
    move || {
        let mut connection = backend.accepted();
        connection.head().unwrap();
        let piece = 64 * 1024;
        (0..size / piece).for_each(|_| drop(connection.bytes(piece).unwrap()));
        connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"));
        let piece = vec![b'.'; piece];
        (0..size / piece.len()).for_each(|_| connection.send(&piece));
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_backend() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let before = peak(&proxy);
    let mut client = proxy.connect();
    client.get("/");
    let mut stream = backend.accept();
    let size = 256 * 1024 * 1024;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let piece = vec![b'.'; 64 * 1024];
    let written =
        (0..size / piece.len()).take_while(|_| stream.write_all(&piece).is_ok());
    let written = written.count() * piece.len();
    assert!(written < size, "the backend could write all of it");
    let grown = peak(&proxy) - before;
    assert!(grown < 16, "the proxy has grown by {grown} MB");
}

#[test]
fn an_http2_client_that_does_not_read_costs_little_memory() {
    const STREAMS: u32 = 20;
    const SIZE: usize = 4 * 1024 * 1024;
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let before = peak(&proxy);
    let mut client = TcpStream::connect(proxy.address).unwrap();
    // As large as windows can be.
    let window = i32::MAX.to_be_bytes();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[&[0, 4], &window[..]].concat()));
    bytes.extend(frame(8, 0, 0, &(i32::MAX - 65_535).to_be_bytes()));
    // GET, http, /, and `x` as the authority.
    for stream in (1..).step_by(2).take(STREAMS as usize) {
        bytes.extend(frame(1, 5, stream, b"\x82\x86\x84\x01\x01x"));
    }
    client.write_all(&bytes).unwrap();
    let written = |stream: &mut TcpStream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let piece = vec![b'.'; 64 * 1024];
        let pieces = SIZE / piece.len();
        (0..pieces).all(|_| stream.write_all(&piece).is_ok())
    };
    let mut streams: Vec<_> = (0..STREAMS).map(|_| backend.accept()).collect();
    thread::scope(|scope| {
        streams.iter_mut().for_each(|stream| drop(scope.spawn(|| written(stream))));
    });
    let grown = peak(&proxy) - before;
    assert!(grown < 12, "the proxy has grown by {grown} MB");
}

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";

#[test]
fn a_websocket_passes_with_the_bytes_that_came_early() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let stream = TcpStream::connect(proxy.address).unwrap();
    let mut client = Connection::new(stream.try_clone().unwrap());
    client.send(format!("{WEBSOCKET}early"));
    let mut there = backend.accepted();
    let head = there.head().unwrap();
    assert_eq!(header(&head, "connection"), ["upgrade"]);
    assert_eq!(header(&head, "upgrade"), ["websocket"]);
    assert_eq!(header(&head, "sec-websocket-version"), ["13"]);
    there.send(format!("{SWITCHING}bird"));
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(header(&head, "upgrade"), ["websocket"]);
    assert_eq!(header(&head, "connection"), ["upgrade"]);
    assert_eq!(header(&head, "sec-websocket-accept").len(), 1);
    assert_eq!(client.bytes(4).unwrap(), b"bird");
    assert_eq!(there.bytes(5).unwrap(), b"early");
    client.send("ping");
    assert_eq!(there.bytes(4).unwrap(), b"ping");
    // One direction ends, and the other goes on.
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(there.rest().unwrap(), "");
    there.send("bye");
    assert_eq!(client.bytes(3).unwrap(), b"bye");
    drop(there);
    assert_eq!(client.rest().unwrap(), "");
}

#[test]
fn a_websocket_that_the_backend_refuses_is_an_ordinary_response() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let mut client = proxy.connect();
    client.send(WEBSOCKET);
    let mut there = backend.accepted();
    there.head().unwrap();
    there.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.response().unwrap().status(), "HTTP/1.1 403 Forbidden");
    client.get("/");
    there.head().unwrap();
    ok(&mut there, "again");
    assert_eq!(client.response().unwrap().text(), "again");

    // A 426 names the protocol, if it is the one that passes.
    for (protocol, passes) in [("websocket", true), ("h2c", false)] {
        client.get("/");
        there.head().unwrap();
        there.send(format!(
            "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: {protocol}\r\ncontent-length: 0\r\n\r\n"
        ));
        let head = client.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
        assert_eq!(header(&head, "upgrade") == [protocol], passes, "{head}");
    }
}

#[test]
fn a_backend_cannot_switch_protocols_unasked() {
    for request in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        &WEBSOCKET.replace("websocket\r", "h2c\r"),
    ] {
        let backend = Backend::listen();
        let proxy = start(&[backend.address]);
        let mut client = proxy.connect();
        client.send(request);
        let mut there = backend.accepted();
        let head = there.head().unwrap();
        assert_eq!(header(&head, "upgrade"), [""; 0]);
        there.send(SWITCHING);
        assert_eq!(client.response().unwrap().status(), "HTTP/1.1 502 Bad Gateway");
    }
}

#[test]
fn without_a_backend_the_answer_is_502() {
    let proxy = start(&[dead()]);
    let mut client = proxy.connect();
    client.get("/");
    assert_eq!(client.response().unwrap().status(), "HTTP/1.1 502 Bad Gateway");
    let line = proxy.line();
    assert!(line.contains("client error (Connect): tcp connect error"), "{line}");
}

#[test]
fn a_backend_that_speaks_no_http_is_502() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nhi",
    ] {
        let backend = Backend::listen();
        let proxy = start(&[backend.address]);
        let mut client = proxy.connect();
        client.get("/");
        let mut there = backend.accepted();
        there.head().unwrap();
        there.send(bytes);
        let answer = client.response().unwrap();
        assert_eq!(answer.status(), "HTTP/1.1 502 Bad Gateway", "{bytes:?}");
    }
}

#[test]
fn when_the_client_leaves_the_backend_is_told() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    // Before the response, in the middle of it, and in the middle of an upload.
    for (request, response) in [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nhello"),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhello", ""),
    ] {
        let mut client = proxy.connect();
        client.send(request);
        let mut there = backend.accepted();
        there.head().unwrap();
        there.send(response);
        if !response.is_empty() {
            client.head().unwrap();
        }
        drop(client);
        there.rest().unwrap();
    }
}

#[test]
fn a_request_goes_on_to_the_next_backend_if_one_refuses_to_connect() {
    let backend = Backend::listen();
    let dead = dead();
    let proxy = start(&[dead, backend.address]);
    let mut there: Option<Connection> = None;
    let mut client = proxy.connect();
    for _ in 0..20 {
        client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
        let there = there.get_or_insert_with(|| backend.accepted());
        there.head().unwrap();
        assert_eq!(there.bytes(5).unwrap(), b"hello");
        ok(there, "took it");
        assert_eq!(client.response().unwrap().text(), "took it");
    }
    // It is not asked each time.
    drop(client);
    let (_, lines) = {
        let mut p = proxy;
        p.signal("TERM");
        p.wait()
    };
    let refused =
        lines.iter().filter(|line| line.contains(&dead.to_string())).count();
    assert!((1..10).contains(&refused), "asked {refused} times: {lines:?}");
}

#[test]
fn all_backends_are_tried_before_502() {
    let backend = Backend::listen();
    let proxy = start(&[dead(), dead(), backend.address]);
    let mut client = proxy.connect();
    client.get("/");
    let mut there = backend.accepted();
    there.head().unwrap();
    ok(&mut there, "alive");
    assert_eq!(client.response().unwrap().text(), "alive");
}

#[test]
fn backends_take_turns() {
    let backends = [Backend::listen(), Backend::listen()];
    let proxy = start(&[backends[0].address, backends[1].address]);
    let mut there = [None, None];
    let mut client = proxy.connect();
    for i in 0..6 {
        client.get("/");
        let there: &mut Connection =
            there[i % 2].get_or_insert_with(|| backends[i % 2].accepted());
        there.head().unwrap();
        ok(there, "");
        client.response().unwrap();
    }
}

/// A backend that closes a connection it has kept when the next request comes, as if they had crossed.
fn stale(request: &str) -> (Backend, Program, Connection) {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let mut client = proxy.connect();
    client.get("/");
    let mut there = backend.accepted();
    there.head().unwrap();
    ok(&mut there, "");
    client.response().unwrap();
    client.send(request);
    there.head().unwrap();
    drop(there);
    (backend, proxy, client)
}

#[test]
fn only_a_request_that_may_be_repeated_is_sent_again_on_a_new_connection() {
    let (backend, _proxy, mut client) = stale("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut there = backend.accepted();
    there.head().unwrap();
    // Once, not again and again.
    drop(there);
    assert_eq!(client.response().unwrap().status(), "HTTP/1.1 502 Bad Gateway");
    assert!(backend.is_alone());

    for request in [
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
    ] {
        let (backend, _proxy, mut client) = stale(request);
        assert_eq!(client.response().unwrap().status(), "HTTP/1.1 502 Bad Gateway");
        assert!(backend.is_alone(), "sent again: {request:?}");
    }
}

#[test]
fn a_connection_that_was_closed_while_idle_costs_no_request() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let mut client = proxy.connect();
    for _ in 0..5 {
        client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
        let stream = backend.accept();
        let mut there = Connection::new(stream.try_clone().unwrap());
        there.head().unwrap();
        there.bytes(5).unwrap();
        ok(&mut there, "");
        client.response().unwrap();
        // The proxy has seen the end when it closes its side.
        stream.shutdown(Shutdown::Write).unwrap();
        there.rest().unwrap();
    }
}

#[test]
fn a_backend_has_so_many_requests_at_a_time() {
    let places = proxies()
        .number("Each backend has at most {} requests and WebSockets")
        as usize;
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let mut clients = Vec::new();
    let mut there = Vec::new();
    for _ in 0..places {
        let mut client = proxy.connect();
        client.get("/");
        there.push(backend.accepted());
        clients.push(client);
    }
    let mut last = proxy.connect();
    last.get("/");
    assert_eq!(last.response().unwrap().status(), "HTTP/1.1 503 Service Unavailable");
    // The place is free when the response has ended.
    ok(&mut there[0], "");
    clients[0].response().unwrap();
    clients[0].get("/");
    there[0].head().unwrap();
    there[0].head().unwrap();
    ok(&mut there[0], "again");
    assert_eq!(clients[0].response().unwrap().text(), "again");
}

#[test]
fn running_out_of_descriptors_is_not_the_fault_of_the_backend() {
    let error = std::io::Error::from_raw_os_error;
    assert!(program::is_our_limit(&error(24)), "EMFILE: {}", error(24));
    assert!(program::is_our_limit(&error(23)), "ENFILE: {}", error(23));
    let refused = std::io::Error::from(ErrorKind::ConnectionRefused);
    assert!(!program::is_our_limit(&refused));
}

#[tokio::test]
async fn a_trusted_proxy_is_known_on_a_socket_for_both_families() {
    for (trusted, peer) in
        [("10.0.0.1", "::ffff:10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1")]
    {
        let (address, listener) = listen().await;
        let trusted = vec![trusted.parse().unwrap()];
        let proxy = Arc::new(Proxy::new(vec![address], trusted));
        let (mut client, server) = duplex(1024);
        tokio::spawn(program::serve(proxy, server, peer.parse().unwrap()));
        let request =
            "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.1\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut backend, _) = listener.accept().await.unwrap();
        let head = read_head(&mut backend).await;
        assert_eq!(header(&head, "x-forwarded-for"), ["192.0.2.1, 10.0.0.1"]);
    }
}

#[test]
fn an_upload_keeps_its_place_when_the_response_is_early() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let mut pairs = Vec::new();
    for _ in 0..program::IN_FLIGHT {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhello");
        let mut there = backend.accepted();
        there.head().unwrap();
        ok(&mut there, "");
        client.response().unwrap();
        pairs.push((client, there));
    }
    let mut last = proxy.connect();
    last.get("/");
    let status = last.response().unwrap().status().to_owned();
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "beside all uploads");
}

#[tokio::test]
async fn a_response_that_has_ended_leaves_its_place_to_others() {
    let (address, backend) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = backend.accept().await {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            tokio::spawn(async move {
                loop {
                    read_head(&mut stream).await;
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let proxy = Arc::new(Proxy::new(vec![address], vec![]));
    let (mut senders, mut unread) = (Vec::new(), Vec::new());
    // Streams that nobody reads, and one more than there are places.
    for i in 0..=program::IN_FLIGHT {
        if i % 16 == 0 {
            senders.push(without_window(&proxy).await);
        }
        let response = senders[i / 16].send_request(http2_get());
        let response = time::timeout(LIMIT, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 200, "after {i} unread responses");
        unread.push(response);
    }
}

// With a clock that stands still while there is work to do: the client is in memory, the backend is a task.

/// A client of a proxy in front of a backend that has read the head of its request.
struct Exchange {
    client: DuplexStream,
    backend: tokio::net::TcpStream,
    conn: JoinHandle<Result<(), String>>,
    start: Instant,
}

async fn exchange(request: &str) -> Exchange {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let proxy = Arc::new(Proxy::new(vec![address.parse().unwrap()], vec![]));
    let (mut client, server) = duplex(64 * 1024);
    let conn = tokio::spawn(async {
        program::serve(proxy, server, [127, 0, 0, 1].into())
            .await
            .map_err(|error| error.to_string())
    });
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    read_head(&mut backend).await;
    // From here on nothing happens but by the clock.
    time::pause();
    Exchange { client, backend, conn, start: Instant::now() }
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

fn http2_get() -> Request<Empty<Bytes>> {
    Request::get("http://x/").body(Empty::new()).unwrap()
}

async fn listen() -> (Authority, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address.parse().unwrap(), listener)
}

/// An HTTP/2 client that gets the heads of its responses and never reads their bodies.
async fn without_window(proxy: &Arc<Proxy>) -> Http2 {
    let (client, server) = duplex(64 * 1024);
    tokio::spawn(program::serve(proxy.clone(), server, [127, 0, 0, 1].into()));
    let (sender, conn) =
        hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(0)
            .handshake(TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(conn);
    sender
}

#[tokio::test]
async fn the_backend_is_left_if_a_stream_is_not_read() {
    let (address, listener) = listen().await;
    let proxy = Arc::new(Proxy::new(vec![address], vec![]));
    let mut client = without_window(&proxy).await;
    let response = tokio::spawn(client.send_request(http2_get()));
    let (mut backend, _) = listener.accept().await.unwrap();
    read_head(&mut backend).await;
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    backend.write_all(half).await.unwrap();
    let _unread = response.await.unwrap().unwrap();
    time::pause();
    let start = Instant::now();
    assert_eq!(within(backend.read(&mut [0])).await.unwrap(), 0);
    let seconds = start.elapsed().as_secs_f64().round() as u64;
    assert_eq!(seconds, program::WRITE_STALL.as_secs());
    assert!(!client.is_closed(), "the other streams go on");
}

/// Waits, for a day at most by the clock that the test moves.
pub async fn within<F: Future>(what: F) -> F::Output {
    let day = Duration::from_secs(24 * 3600);
    time::timeout(day, what).await.expect("the end of this wait")
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Waits for the answer: its status, and after how many seconds it came, rounded.
async fn status(exchange: &mut Exchange) -> (u64, String) {
    let head = within(read_head(&mut exchange.client)).await;
    let seconds = exchange.start.elapsed().as_secs_f64().round() as u64;
    (seconds, head.split(' ').nth(1).unwrap().to_owned())
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";

fn backend_head() -> u64 {
    proxies().number("the backend has {} seconds for the head of its response")
}

#[tokio::test]
async fn a_slow_backend_is_504() {
    let mut waiting = exchange(GET).await;
    assert_eq!(status(&mut waiting).await, (backend_head(), "504".to_owned()));
    // The backend learns that nobody waits.
    time::resume();
    assert_eq!(within(waiting.backend.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn the_time_for_the_response_begins_with_the_end_of_the_upload() {
    let mut uploading = exchange(UPLOAD).await;
    let piece = vec![b'.'; 10_000];
    for _ in 0..10 {
        sleep(Duration::from_secs(backend_head() / 3)).await;
        uploading.client.write_all(&piece).await.unwrap();
    }
    uploading.start = Instant::now();
    assert_eq!(status(&mut uploading).await, (backend_head(), "504".to_owned()));
}

#[tokio::test]
async fn a_stalled_upload_is_408_and_so_is_one_that_is_too_slow() {
    let [pause, rate] = proxies().numbers(
        "A client may pause for {} seconds, and must send {} bytes per second",
    );
    let mut stalled = exchange(UPLOAD).await;
    assert_eq!(status(&mut stalled).await, (pause, "408".to_owned()));
    time::resume();

    // Half of the rate uses up the pause in twice its time.
    let Exchange { client, backend: _backend, .. } = exchange(UPLOAD).await;
    let start = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move {
        let piece = vec![b'.'; rate as usize / 2];
        while writer.write_all(&piece).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let head = within(read_head(&mut reader)).await;
    assert!(head.contains(" 408 "), "{head}");
    let seconds = start.elapsed().as_secs();
    assert!((2 * pause - 2..2 * pause + 2).contains(&seconds), "{seconds} s");
}

#[tokio::test]
async fn a_response_that_stalls_is_cut_off() {
    let pause = proxies().number("A response may pause for {} seconds");
    let mut stalled = exchange(GET).await;
    time::resume();
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    stalled.backend.write_all(half.as_bytes()).await.unwrap();
    let head = read_head(&mut stalled.client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let mut hello = [0; 5];
    stalled.client.read_exact(&mut hello).await.unwrap();
    time::pause();
    let start = Instant::now();
    assert_eq!(within(stalled.client.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(start.elapsed().as_secs_f64().round() as u64, pause);
    let error = within(stalled.conn).await.unwrap().unwrap_err();
    assert_eq!(error, "error from user's Body stream");
}

#[tokio::test]
async fn a_websocket_is_closed_when_it_is_idle_and_not_before() {
    let idle = proxies()
        .number("One that is silent in both directions for {} seconds is closed");
    let mut websocket = exchange(WEBSOCKET).await;
    time::resume();
    websocket.backend.write_all(SWITCHING.as_bytes()).await.unwrap();
    let head = read_head(&mut websocket.client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // One direction is enough to keep it.
    let mut byte = [0];
    for _ in 0..3 {
        websocket.backend.write_all(b".").await.unwrap();
        websocket.client.read_exact(&mut byte).await.unwrap();
        time::pause();
        sleep(Duration::from_secs(idle - 1)).await;
        time::resume();
    }
    time::pause();
    let start = Instant::now();
    assert_eq!(within(websocket.client.read(&mut byte)).await.unwrap(), 0);
    let seconds = start.elapsed().as_secs();
    assert!(seconds <= 2 * idle, "closed after {seconds} s");
    time::resume();
    assert_eq!(websocket.backend.read(&mut byte).await.unwrap(), 0);
}

#[tokio::test]
async fn a_slow_reader_of_a_websocket_is_not_silent() {
    let idle = program::TUNNEL_IDLE.as_secs();
    let mut websocket = exchange(WEBSOCKET).await;
    time::resume();
    websocket.backend.write_all(SWITCHING.as_bytes()).await.unwrap();
    read_head(&mut websocket.client).await;
    websocket.backend.write_all(&[b'.'; 100 * 1024]).await.unwrap();
    websocket.client.read_exact(&mut [0; 1000]).await.unwrap();
    time::pause();
    for _ in 0..4 {
        sleep(Duration::from_secs(idle - 1)).await;
        websocket.client.read_exact(&mut [0; 1000]).await.expect("more");
    }
    // A backend that has been left reads an end or an error.
    let read = websocket.backend.try_read(&mut [0]);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock, "cut off");
}

#[tokio::test]
async fn an_idle_connection_to_the_backend_is_closed_in_time() {
    let idle = proxies().number("closes a connection that was idle for {} seconds");
    let mut used = exchange(GET).await;
    time::resume();
    let response = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for _ in 0..2 {
        used.backend.write_all(response.as_bytes()).await.unwrap();
        read_head(&mut used.client).await;
        // The same connection is used again.
        used.client.write_all(GET.as_bytes()).await.unwrap();
        read_head(&mut used.backend).await;
    }
    used.backend.write_all(response.as_bytes()).await.unwrap();
    read_head(&mut used.client).await;
    time::pause();
    let start = Instant::now();
    assert_eq!(within(used.backend.read(&mut [0])).await.unwrap(), 0);
    let seconds = start.elapsed().as_secs();
    // The pool looks once in a while.
    assert!((idle - 1..=2 * idle).contains(&seconds), "closed after {seconds} s");
}

#[tokio::test]
async fn a_client_without_a_request_is_dropped() {
    let first = proxies().number("A client has {} seconds for its first request");
    for bytes in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\n"] {
        let proxy =
            Arc::new(Proxy::new(vec!["127.0.0.1:1".parse().unwrap()], vec![]));
        let (mut client, server) = duplex(1024);
        let peer = [127, 0, 0, 1].into();
        let conn = tokio::spawn(async move {
            program::serve(proxy, server, peer).await.is_err()
        });
        client.write_all(bytes.as_bytes()).await.unwrap();
        time::pause();
        let start = Instant::now();
        assert!(within(conn).await.unwrap());
        assert_eq!(start.elapsed().as_secs(), first, "{bytes:?}");
        time::resume();
    }
}

#[tokio::test]
async fn a_connection_has_an_end() {
    let [minutes, seconds] =
        proxies().numbers("A connection ends after {} minutes, and its last responses have {} seconds more");
    let mut waiting = exchange(GET).await;
    time::resume();
    waiting.backend.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    read_head(&mut waiting.client).await;
    // An endless response.
    let mut backend = waiting.backend;
    tokio::spawn(async move {
        while backend.write_all(b".").await.is_ok() {
            sleep(Duration::from_secs(30)).await;
        }
    });
    let mut client = waiting.client;
    tokio::spawn(async move {
        while client.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
    });
    time::pause();
    let error = within(waiting.conn).await.unwrap().unwrap_err();
    assert_eq!(error, "closed at its maximum age");
    let expected = Duration::from_secs(60 * minutes + seconds);
    assert_eq!(waiting.start.elapsed().as_secs_f64().round(), expected.as_secs_f64());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_ends_a_connection_whose_peer_does_not_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    program::limit_writes(&stream, Duration::from_secs(1)).unwrap();
    let piece = vec![b'.'; 64 * 1024];
    let all = async { while stream.write_all(&piece).await.is_ok() {} };
    time::timeout(LIMIT, all).await.expect("an error");
    drop(peer);
}
