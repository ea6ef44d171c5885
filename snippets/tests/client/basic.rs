//! What src/client/basic.md promises.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener as TokioListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{self, sleep, timeout};

use harness::{LIMIT, Program, Server, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/basic.rs"]
mod program;

use program::{Target, target};

/// A wait on the paused clock that is as good as for ever.
const HOUR: Duration = Duration::from_secs(3600);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

fn seconds() -> u64 {
    let [seconds, _] = page("client/basic")
        .numbers::<2>("Each step may take {} seconds, and a body may have {} MiB");
    seconds
}

fn max_body() -> usize {
    let [_, mib] = page("client/basic")
        .numbers::<2>("Each step may take {} seconds, and a body may have {} MiB");
    mib as usize * 1024 * 1024
}

/// What the program prints, and its status.
fn end(mut program: Program) -> (Option<i32>, Vec<String>) {
    let (status, printed) = program.wait();
    (status.code(), printed)
}

/// An error with its causes.
fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", report(cause)),
        None => error.to_string(),
    }
}

fn client(urls: &[&str]) -> Program {
    Program::client("basic", urls)
}

// What the server sees.

#[test]
fn the_server_sees_the_path_and_the_host() {
    let server = Server::start();
    let program = client(&[&server.url("/path?query")]);
    let mut conn = server.accept();
    let host = server.address;
    assert_eq!(
        conn.head().unwrap(),
        format!("GET /path?query HTTP/1.1\r\nhost: {host}\r\n\r\n")
    );
    conn.send(OK);
    assert_eq!(conn.rest().unwrap(), "", "the client closes the connection");
    assert_eq!(end(program), (Some(0), vec!["200 OK".into(), "hello".into()]));
}

#[test]
fn user_and_password_and_fragment_are_not_sent() {
    let server = Server::start();
    let host = server.address;
    for (after, path) in
        [("/path#fragment", "/path"), ("#fragment", "/"), ("", "/"), ("?q", "/?q")]
    {
        let _program = client(&[&format!("http://user:password@{host}{after}")]);
        let head = server.accept().head().unwrap();
        let expected = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(head, expected, "for {after:?}");
    }
}

#[test]
fn the_second_request_uses_the_same_connection() {
    let server = Server::start();
    let program = client(&[&server.url("/1"), &server.url("/2")]);
    let mut conn = server.accept();
    assert!(conn.head().unwrap().starts_with("GET /1 HTTP/1.1\r\n"));
    conn.send(OK);
    assert!(conn.head().unwrap().starts_with("GET /2 HTTP/1.1\r\n"));
    assert!(server.try_accept().is_none(), "a second connection");
    conn.send("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let printed = ["200 OK", "hello", "404 Not Found"].map(String::from).to_vec();
    assert_eq!(end(program), (Some(0), printed));
}

#[test]
fn an_ipv6_address_keeps_its_brackets() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap_or_else(|error| {
        panic!(
            "this test needs IPv6, and this machine has no ::1 ({error}): see /proc/net/if_inet6"
        )
    });
    let address = listener.local_addr().unwrap();
    let program = client(&[&format!("http://{address}/")]);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let expected = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut head = vec![0; expected.len()];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(String::from_utf8(head).unwrap(), expected);
    stream.write_all(OK.as_bytes()).unwrap();
    assert_eq!(end(program).0, Some(0));

    // Why the page says to format the address.
    let uri: Uri = "http://[::1]/".parse().unwrap();
    assert_eq!(uri.host(), Some("[::1]"));
    assert!("[::1]".parse::<IpAddr>().is_err());
}

#[test]
fn the_host_has_a_port_only_if_the_url_has_one() {
    for (url, address, host) in [
        ("http://example.com", "example.com:80", "example.com"),
        ("HTTP://u:p@example.com/", "example.com:80", "example.com"),
        ("http://example.com:8080", "example.com:8080", "example.com:8080"),
        ("http://[::1]/", "[::1]:80", "[::1]"),
        ("http://u@[::1]:8080/", "[::1]:8080", "[::1]:8080"),
    ] {
        let target = target(url).unwrap();
        assert_eq!((&*target.address, &*target.host), (address, host), "{url}");
    }
}

#[test]
fn a_url_that_the_program_cannot_use_gets_a_clear_error() {
    for (url, error) in [
        ("https://127.0.0.1/", "https needs TLS, and this is plain TCP"),
        ("/path", "the URL does not begin with http://"),
        ("127.0.0.1:3000", "the URL does not begin with http://"),
        ("ftp://127.0.0.1/", "the URL does not begin with http://"),
        ("http://:80/", "the URL has no host"),
        ("http:///path", "invalid format"),
        ("http://127.0.0.1/a b", "invalid uri character"),
        ("http://127.0.0.1:99999/", "invalid port value"),
        ("http://127.0.0.1:/", "invalid port value"),
    ] {
        assert_eq!(end(client(&[url])), (Some(1), vec![error.into()]), "{url}");
    }
    let (status, printed) = end(client(&[]));
    assert_eq!(status, Some(1));
    assert!(printed[0].starts_with("usage: basic http://"), "{printed:?}");
    // One that `Uri` takes for no port at all.
    assert_eq!("http://x:99999/".parse::<Uri>().unwrap().port_u16(), None);
}

#[test]
fn urls_of_two_servers_do_not_share_a_connection() {
    let server = Server::start();
    let program = client(&[&server.url("/"), "http://127.0.0.2:1/secret"]);
    let error = "one connection leads to one server";
    assert_eq!(end(program), (Some(1), vec![error.into()]));
    assert!(server.try_accept().is_none(), "before it connects");
}

// The limits.

/// A connection in memory: its sender, its task, and the server's end.
async fn in_memory() -> (SendRequest<Empty<Bytes>>, JoinHandle<Ended>, DuplexStream) {
    let (sender, conn, server) = not_polled().await;
    (sender, tokio::spawn(conn), server)
}

type Ended = hyper::Result<()>;
type InMemory = Connection<TokioIo<DuplexStream>, Empty<Bytes>>;

async fn not_polled() -> (SendRequest<Empty<Bytes>>, InMemory, DuplexStream) {
    let (io, server) = duplex(1024);
    let (sender, conn) = http1::handshake(TokioIo::new(io)).await.unwrap();
    (sender, conn, server)
}

fn example() -> Target {
    target("http://example.com/").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_or_goes_on_for_ever_is_left() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"] {
        let (mut sender, _task, mut server) = in_memory().await;
        tokio::spawn(async move {
            head(&mut server).await;
            server.write_all(answer.as_bytes()).await.ok();
            // A byte of the body every second, or of nothing: the clock goes on.
            while !answer.is_empty() && server.write_all(b".").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
            sleep(HOUR).await;
        });
        let start = time::Instant::now();
        let target = example();
        let get = timeout(HOUR, program::get(&mut sender, &target));
        let error = get.await.expect("the client has a time limit");
        let error =
            error.map(|_| "a response").expect_err("the limit covers the body");
        assert!(report(&*error).contains("deadline has elapsed"), "{error}");
        assert_eq!(start.elapsed().as_secs(), seconds());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_gets_no_answer_is_given_up() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _in_the_backlog = std::net::TcpStream::connect(address).unwrap();
    let start = time::Instant::now();
    let address = address.to_string();
    let connect = timeout(HOUR, program::connect(&address));
    let error = connect.await.expect("the connect has a time limit").unwrap_err();
    assert_eq!(error.to_string(), "deadline has elapsed");
    assert_eq!(start.elapsed().as_secs(), seconds());
}

#[test]
fn a_body_may_be_as_large_as_the_page_says_and_no_larger() {
    for (length, error) in
        [(max_body(), None), (max_body() + 1, Some("length limit exceeded"))]
    {
        let server = Server::start();
        let program = client(&[&server.url("/")]);
        let mut conn = server.accept();
        conn.head().unwrap();
        // Without a length, so that only counting can tell.
        let size = format!("{length:x}");
        conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        conn.send([size.as_bytes(), b"\r\n"].concat());
        conn.send(vec![b'x'; length]);
        // The client may have closed the connection.
        let (status, printed) = match error {
            None => {
                conn.send("\r\n0\r\n\r\n");
                end(program)
            }
            Some(_) => end(program),
        };
        match error {
            None => {
                assert_eq!(status, Some(0), "{length} bytes");
                assert_eq!(printed[1].len(), length);
            }
            Some(error) => {
                assert_eq!((status, &*printed), (Some(1), &[error.to_string()][..]));
            }
        }
    }
}

// The two things that `handshake` returns.

fn request() -> Request<Empty<Bytes>> {
    Request::get("/").header(HOST, "example.com").body(Empty::new()).unwrap()
}

/// Reads the head of a request.
async fn head(server: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            timeout(LIMIT, server.read_u8()).await.expect("a request").unwrap(),
        );
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(start_paused = true)]
async fn while_nobody_polls_the_connection_nothing_is_sent_and_the_request_hangs() {
    let (mut sender, conn, mut server) = not_polled().await;
    let sent = sender.send_request(request());
    assert!(timeout(HOUR, sent).await.is_err(), "the request hangs");
    let (mut sender2, conn2, _server2) = not_polled().await;
    assert!(timeout(HOUR, sender2.ready()).await.is_err(), "`ready` hangs");
    let mut byte = [0];
    assert!(timeout(HOUR, server.read(&mut byte)).await.is_err(), "nothing is sent");
    drop((conn, conn2));

    // Polled up to the head of the response, and no longer: the body hangs.
    let (mut sender, mut conn, mut server) = not_polled().await;
    let sent = sender.send_request(request());
    let answer = async {
        head(&mut server).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n";
        server.write_all(head.as_bytes()).await.unwrap();
        sent.await.unwrap()
    };
    let response = tokio::select! {
        response = answer => response,
        ended = &mut conn => panic!("{ended:?}"),
    };
    server.write_all(b"hello\n").await.unwrap();
    assert!(timeout(HOUR, response.collect()).await.is_err(), "the body hangs");
}

#[tokio::test(start_paused = true)]
async fn awaiting_the_connection_first_never_ends() {
    let (sender, mut conn, _server) = not_polled().await;
    assert!(timeout(HOUR, &mut conn).await.is_err(), "while the sender is there");
    drop(sender);
    timeout(HOUR, conn).await.expect("the sender is gone").unwrap();
}

#[tokio::test(start_paused = true)]
async fn handshake_sends_nothing() {
    let (_sender, _task, mut server) = in_memory().await;
    assert!(timeout(HOUR, server.read_u8()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn without_spawn_join_polls_both() {
    let (mut sender, conn, mut server) = not_polled().await;
    tokio::spawn(async move {
        head(&mut server).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    });
    let get = async move {
        let response = sender.send_request(request()).await?;
        Ok(response.collect().await?.to_bytes())
    };
    let both = timeout(HOUR, async { tokio::try_join!(conn, get) });
    let ((), body) =
        both.await.expect("the future of the request owns the sender").unwrap();
    assert_eq!(body, "hello\n");
}

#[tokio::test(start_paused = true)]
async fn ready_waits_until_the_response_is_read() {
    let (mut sender, _task, mut server) = in_memory().await;
    let sent = sender.send_request(request());
    head(&mut server).await;
    server
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhel")
        .await
        .unwrap();
    let response = sent.await.unwrap();
    assert!(timeout(HOUR, sender.ready()).await.is_err(), "the body is not read");
    let error = sender.send_request(request()).await.unwrap_err();
    assert_eq!(report(&error), NOT_READY, "a second request at the same time");
    assert!(error.is_canceled());

    server.write_all(b"lo\n").await.unwrap();
    response.collect().await.unwrap();
    timeout(HOUR, sender.ready()).await.expect("the body is read").unwrap();
    let sent = sender.send_request(request());
    head(&mut server).await;
    server.write_all(OK.as_bytes()).await.unwrap();
    sent.await.unwrap();
}

/// The task of the connection is on another thread, and may come second. How often, nobody knows:
/// so this waits until it is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_after_a_response_the_sender_may_not_be_ready() {
    let Through { mut sender, task: _task, mut server } = Through::new().await;
    tokio::spawn(async move {
        loop {
            head(&mut server).await;
            server.write_all(OK.as_bytes()).await.unwrap();
        }
    });
    let seen = timeout(LIMIT, async {
        loop {
            match sender.send_request(request()).await {
                Ok(response) => _ = response.collect().await.unwrap(),
                Err(error) => return error,
            }
        }
    });
    let error = seen.await.expect("`ready` is not needed: say so on the page");
    assert_eq!(report(&error), NOT_READY);
    for _ in 0..100 {
        sender.ready().await.unwrap();
        sender.send_request(request()).await.unwrap().collect().await.unwrap();
    }
}

// What ends the connection.

const NOT_READY: &str = "operation was canceled: connection was not ready";
const RESET: &str = "connection error: Connection reset by peer (os error 104)";
const EARLY: &str = "connection closed before message completed";

/// A connection through a socket, which can be reset.
struct Through {
    sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<Ended>,
    server: TcpStream,
}

impl Through {
    async fn new() -> Through {
        let listener = TokioListener::bind("127.0.0.1:0").await.unwrap();
        let stream =
            TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (sender, conn) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        Through { sender, task: tokio::spawn(conn), server }
    }

    /// With one request and its response behind it.
    async fn used() -> Through {
        let mut this = Through::new().await;
        let sent = this.sender.send_request(request());
        head(&mut this.server).await;
        this.server.write_all(OK.as_bytes()).await.unwrap();
        sent.await.unwrap().collect().await.unwrap();
        this.sender.ready().await.unwrap();
        this
    }

    async fn ends(self) -> Result<(), String> {
        let Through { sender, task, server: _server } = self;
        ends(sender, task).await
    }
}

/// What the task ends with. After that, the sender says that nothing can be sent.
async fn ends(
    mut sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<Ended>,
) -> Result<(), String> {
    let ended = timeout(LIMIT, task).await.expect("the task ends").unwrap();
    assert!(sender.is_closed());
    let error = sender.ready().await.unwrap_err();
    assert_eq!(report(&error), "channel closed");
    assert!(error.is_closed());
    let error = sender.send_request(request()).await.unwrap_err();
    assert_eq!(report(&error), NOT_READY);
    assert!(error.is_canceled(), "it was not sent");
    ended.map_err(|error| report(&error))
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closes_ends_without_an_error() {
    let mut conn = Through::used().await;
    conn.server.shutdown().await.unwrap();
    assert_eq!(conn.ends().await, Ok(()));
}

#[tokio::test]
async fn an_idle_connection_that_is_reset_gives_the_error_to_its_task() {
    let Through { sender, task, server } = Through::used().await;
    reset(server);
    assert_eq!(ends(sender, task).await, Err(RESET.into()));
}

#[tokio::test]
async fn a_message_that_nobody_asked_for_gives_the_error_to_the_task() {
    let mut conn = Through::used().await;
    let answer = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n";
    conn.server.write_all(answer.as_bytes()).await.unwrap();
    let error = "received unexpected message from connection";
    assert_eq!(conn.ends().await, Err(error.into()));
}

#[tokio::test]
async fn a_close_before_the_first_request_gives_the_error_to_the_task() {
    let mut conn = Through::new().await;
    conn.server.shutdown().await.unwrap();
    assert_eq!(conn.ends().await, Err(EARLY.into()));
}

#[tokio::test]
async fn a_request_that_waits_for_its_head_gets_the_error_and_the_task_none() {
    for (resets, expected) in [(false, EARLY), (true, RESET)] {
        let Through { mut sender, task, mut server } = Through::new().await;
        let sent = sender.send_request(request());
        head(&mut server).await;
        if resets {
            reset(server);
        } else {
            drop(server);
        }
        assert_eq!(report(&sent.await.unwrap_err()), expected);
        assert_eq!(ends(sender, task).await, Ok(()));
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_gets_the_error_and_the_task_none() {
    let mut conn = Through::new().await;
    let sent = conn.sender.send_request(request());
    head(&mut conn.server).await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhel";
    conn.server.write_all(answer.as_bytes()).await.unwrap();
    let response = sent.await.unwrap();
    conn.server.shutdown().await.unwrap();
    assert_eq!(
        report(&response.collect().await.unwrap_err()),
        "error reading a body from connection: end of file before message length reached"
    );
    assert_eq!(conn.ends().await, Ok(()));
}

#[tokio::test]
async fn connection_close_ends_the_connection_after_the_body() {
    for head_of in ["HTTP/1.1 200 OK\r\nconnection: close", "HTTP/1.0 200 OK"] {
        let mut conn = Through::new().await;
        let sent = conn.sender.send_request(request());
        head(&mut conn.server).await;
        let answer = format!("{head_of}\r\ncontent-length: 6\r\n\r\nhello\n");
        conn.server.write_all(answer.as_bytes()).await.unwrap();
        let body = sent.await.unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(body, "hello\n");
        assert_eq!(conn.server.read(&mut [0]).await.unwrap(), 0, "hyper closes it");
        assert_eq!(conn.ends().await, Ok(()));
    }
}

#[tokio::test]
async fn dropping_the_request_or_the_body_ends_the_connection() {
    for body in [false, true] {
        let mut conn = Through::new().await;
        let sent = conn.sender.send_request(request());
        head(&mut conn.server).await;
        if body {
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhel";
            conn.server.write_all(answer.as_bytes()).await.unwrap();
            drop(sent.await.unwrap());
        } else {
            drop(sent);
        }
        assert_eq!(conn.server.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(conn.ends().await, Ok(()));
    }
}

#[tokio::test]
async fn dropping_the_sender_ends_the_connection_after_the_response() {
    let Through { mut sender, task, mut server } = Through::new().await;
    let sent = sender.send_request(request());
    drop(sender);
    head(&mut server).await;
    server.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(sent.await.unwrap().collect().await.unwrap().to_bytes(), "hello\n");
    timeout(LIMIT, task).await.expect("the task ends").unwrap().unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn dropping_the_task_of_the_connection_fails_the_request() {
    let Through { mut sender, task, mut server } = Through::new().await;
    let sent = sender.send_request(request());
    head(&mut server).await;
    task.abort();
    assert_eq!(
        report(&sent.await.unwrap_err()),
        "dispatch task is gone: runtime dropped the dispatch task"
    );
}

#[test]
fn a_second_request_after_connection_close_fails() {
    let server = Server::start();
    let program = client(&[&server.url("/1"), &server.url("/2")]);
    let mut conn = server.accept();
    conn.head().unwrap();
    conn.send(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nhello\n",
    );
    let printed = ["200 OK", "hello", "channel closed"].map(String::from).to_vec();
    assert_eq!(end(program), (Some(1), printed));
}

// Errors.

#[test]
fn an_error_is_printed_with_its_causes() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = "Connection refused (os error 111)";
    let url = format!("http://{free}/");
    assert_eq!(end(client(&[&url])), (Some(1), vec![refused.into()]));

    let server = Server::start();
    let program = client(&[&server.url("/")]);
    let mut conn = server.accept();
    conn.head().unwrap();
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nhello\n");
    drop(conn);
    let cut = "error reading a body from connection: end of file before message length reached";
    assert_eq!(end(program), (Some(1), vec![cut.into()]));
}

#[test]
fn what_speaks_no_http_is_an_invalid_version() {
    let server = Server::start();
    let program = client(&[&server.url("/")]);
    let mut conn = server.accept();
    conn.head().unwrap();
    conn.send("\x15\x03\x03\0\x02\x02\x46");
    let error = "invalid HTTP version parsed";
    assert_eq!(end(program), (Some(1), vec![error.into()]));
}

// What hyper writes by itself.

#[tokio::test(start_paused = true)]
async fn hyper_writes_the_uri_as_it_is_and_adds_no_host() {
    let fragment: Uri = "http://example.com#top".parse().unwrap();
    let path = fragment.path_and_query().unwrap();
    for (uri, line) in [
        (
            "http://user:password@example.com/path".parse().unwrap(),
            "GET http://user:password@example.com/path HTTP/1.1\r\n\r\n",
        ),
        (Uri::from(path.clone()), "GET  HTTP/1.1\r\n\r\n"),
        (path.to_string().parse().unwrap(), "GET / HTTP/1.1\r\n\r\n"),
    ] {
        let (mut sender, _task, mut server) = in_memory().await;
        let request = Request::get(uri).body(Empty::new()).unwrap();
        let _sent = sender.send_request(request);
        assert_eq!(head(&mut server).await, line);
    }
}

// Servers that others wrote.

#[test]
#[ignore = "needs nginx"]
fn others_nginx_answers_two_requests_on_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    let server = Program::nginx(
        folder.path(),
        "server {
             listen 127.0.0.1:PORT;
             location / { return 200 \"$connection_requests $http_host $request_uri\\n\"; }
         }",
    );
    let host = server.address;
    let urls = [format!("http://u:p@{host}?q#f"), format!("http://{host}/2")];
    let (status, printed) = end(client(&[&urls[0], &urls[1]]));
    let expected =
        ["200 OK", &format!("1 {host} /?q"), "200 OK", &format!("2 {host} /2")];
    assert_eq!((status, printed), (Some(0), expected.map(String::from).to_vec()));
}

#[test]
#[ignore = "needs python3"]
fn others_python_closes_after_each_response() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "from a file\n").unwrap();
    let server = Program::of_others(|port| {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]);
        command.arg(folder.path()).arg(port.to_string());
        command
    });
    let url = format!("http://{}/file", server.address);
    let (status, printed) = end(client(&[&url, &url]));
    let expected = ["200 OK", "from a file", "channel closed"];
    assert_eq!((status, printed), (Some(1), expected.map(String::from).to_vec()));
}
