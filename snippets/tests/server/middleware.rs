//! What src/server/middleware.md promises.

use std::convert::Infallible;
use std::future::{Ready, pending};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use harness::{Connection, LIMIT, Program, page};

use crate::server::hello_world::survives_running_out_of_descriptors;

/// The program itself, for its layers and for a clock that a test moves.
#[allow(dead_code)]
#[path = "../../server/middleware.rs"]
mod program;

const FAILED: &str = "HTTP/1.1 500 Internal Server Error";

/// The size of the program's download.
const DOWNLOAD: usize = 32 * 1024 * 1024;

/// The next line of the log: what a panic prints comes between.
fn line(program: &Program) -> String {
    loop {
        let line = program.line();
        let (first, rest) = line.split_once(' ').unwrap_or_default();
        if first.parse::<u64>().is_ok()
            && ["GET", "HEAD"].iter().any(|method| rest.starts_with(method))
        {
            return line;
        }
        let failed = line.starts_with("connection failed");
        assert!(!failed, "a line about the connection: {line}");
    }
}

/// The numbers in a line of the log: the time of the head, the bytes, and the time of the whole.
fn numbers(line: &str) -> [u64; 3] {
    let words: Vec<_> = line.split([' ', ',']).collect();
    let before = |unit: &str, nth: usize| {
        let mut at = (0..words.len()).filter(|at| words[*at] == unit);
        let at = at.nth(nth).unwrap_or_else(|| panic!("no {unit} in {line}"));
        words[at - 1].parse().unwrap()
    };
    [before("ms", 0), before("bytes", 0), before("ms", 1)]
}

#[test]
fn each_response_has_an_id_and_one_line_with_the_cause() {
    let program = Program::start("middleware");
    let mut id = 0;
    for (path, status, cause) in [
        ("/", "HTTP/1.1 200 OK", ""),
        ("/fail", FAILED, " (the database does not answer)"),
        ("/panic", FAILED, " (the handler panicked: index out of range)"),
        ("/", "HTTP/1.1 200 OK", ""),
    ] {
        id += 1;
        // Each on a connection of its own: they have one service together.
        let mut connection = program.connect();
        connection.get(path);
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let length = answer.header("content-length");
        assert_eq!(length, Some(&*answer.body.len().to_string()), "{path}");
        assert_eq!(answer.header("x-request-id"), Some(&*id.to_string()), "{path}");
        let text = answer.text();
        assert!(cause.is_empty() || !text.contains(&cause[2..10]), "{path}: {text}");

        let line = line(&program);
        let [head, bytes, whole] = numbers(&line);
        let code = &status[9..12];
        let expected = format!(
            "{id} GET {path}: {code} after {head} ms{cause}, {bytes} bytes in {whole} ms"
        );
        assert_eq!(line, expected);
        assert_eq!(bytes as usize, answer.body.len());
    }
}

#[test]
fn a_panic_costs_no_other_request() {
    let program = Program::start("middleware");
    let mut other = program.connect();
    other.get("/download");
    other.head().unwrap();
    // On a connection with requests before and after it, sent at once.
    let mut connection = program.connect();
    for path in ["/", "/panic", "/"] {
        connection.get(path);
    }
    for status in ["HTTP/1.1 200 OK", FAILED, "HTTP/1.1 200 OK"] {
        assert_eq!(connection.response().unwrap().status(), status);
    }
    let mut size = 0;
    while let Some(chunk) = other.chunk().unwrap() {
        size += chunk.len();
    }
    assert_eq!(size, DOWNLOAD);
}

type Client = client::conn::http2::SendRequest<Empty<Bytes>>;

async fn http2_client(
    io: impl hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
) -> Client {
    let handshake = client::conn::http2::handshake(TokioExecutor::new(), io);
    let (client, conn) = handshake.await.unwrap();
    tokio::spawn(conn);
    client
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://x{path}")).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_panic_costs_no_other_request_of_its_http2_connection() {
    let program = Program::start("middleware");
    let stream = tokio::net::TcpStream::connect(program.address).await.unwrap();
    let mut client = http2_client(TokioIo::new(stream)).await;
    let requests = async {
        let mut download = client.send_request(get("/download")).await.unwrap();
        let panic = client.send_request(get("/panic")).await.unwrap();
        assert_eq!(panic.status(), 500);
        assert_eq!(panic.headers()["x-request-id"], "2");
        assert_eq!(client.send_request(get("/")).await.unwrap().status(), 200);
        let mut size = 0;
        while let Some(frame) = download.frame().await {
            size += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(size, DOWNLOAD);
    };
    timeout(LIMIT, requests).await.expect("each is answered");
}

/// A service that panics on one path.
async fn panics(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/panic" => panic!("on purpose"),
        _ => Ok(Response::new("hello".into())),
    }
}

#[tokio::test]
async fn without_the_layer_http1_closes_and_http2_resets_the_stream() {
    let (mut client, server) = duplex(1024);
    let service = service_fn(panics);
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let conn = tokio::spawn(conn);
    client.write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "");
    assert!(conn.await.unwrap_err().is_panic());

    let (client, server) = duplex(64 * 1024);
    let builder = http2::Builder::new(TokioExecutor::new());
    let service = service_fn(panics);
    tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
    let mut client = http2_client(TokioIo::new(client)).await;
    client.send_request(get("/panic")).await.expect_err("no response");
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn without_the_layer_a_panic_in_call_ends_an_http2_connection() {
    type Answer = Ready<Result<Response<Full<Bytes>>, Infallible>>;
    let (client, server) = duplex(64 * 1024);
    let builder = http2::Builder::new(TokioExecutor::new());
    let service = service_fn(|_: Request<Incoming>| -> Answer { panic!("in call") });
    let conn = tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
    let mut client = http2_client(TokioIo::new(client)).await;
    client.send_request(get("/")).await.expect_err("no response");
    assert!(conn.await.unwrap_err().is_panic());
}

#[test]
fn control_characters_are_escaped_in_the_log() {
    let program = Program::start("middleware");
    let mut connection = program.connect();
    connection.send("GET /\u{9b}31m HTTP/1.1\r\nhost: x\r\n\r\n");
    connection.response().unwrap();
    let line = program.line();
    assert!(line.starts_with("1 GET /\\u{9b}31m: 200"), "{line}");
}

/// A service of which only the types of its requests and responses are known.
type Boxed = Box<
    dyn Service<
            Request<Empty<Bytes>>,
            Response = Response<Full<Bytes>>,
            Error = program::BoxError,
            Future = program::BoxFuture<
                Result<Response<Full<Bytes>>, program::BoxError>,
            >,
        > + Send
        + Sync,
>;

#[tokio::test]
async fn a_panic_before_the_future_is_caught_too() {
    type Answer = Ready<Result<Response<Full<Bytes>>, Infallible>>;
    let inner =
        service_fn(|_: Request<Empty<Bytes>>| -> Answer { panic!("{}", "in call") });
    let service: Boxed = Box::new(program::CatchPanic { inner });
    let error = service.call(get("/")).await.expect_err("an error");
    assert_eq!(error.to_string(), "the handler panicked: in call");
}

/// Serves a connection with the program's service.
fn start(buffer: usize) -> DuplexStream {
    let (client, server) = duplex(buffer);
    let service = program::service();
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(conn);
    client
}

fn request_time() -> Duration {
    Duration::from_secs(page("server/middleware").number("A handler has {} seconds"))
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_gets_503_from_an_inner_layer() {
    let mut client = start(1024);
    let begun = Instant::now();
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    let count = timeout(Duration::from_secs(3599), client.read(&mut answer));
    let count = count.await.expect("the time of a request is limited").unwrap();
    assert_eq!(begun.elapsed().as_secs(), request_time().as_secs());
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-request-id: 1\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_ends_with_the_head() {
    let mut client = start(1024);
    client.write_all(b"GET /download HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut piece = vec![0; 1024];
    client.read_exact(&mut piece).await.unwrap();
    assert!(piece.starts_with(b"HTTP/1.1 200 OK\r\n"));
    sleep(10 * request_time()).await;
    for _ in 0..1024 {
        client.read_exact(&mut piece).await.expect("the body goes on");
    }
}

#[tokio::test]
async fn a_panic_in_a_body_is_not_caught() {
    let (mut client, server) = duplex(1024);
    let inner = service_fn(async |_: Request<Incoming>| {
        let body = Full::<Bytes>::from("x")
            .map_frame(|_| -> Frame<Bytes> { panic!("in the body") });
        Ok::<_, Infallible>(Response::new(body))
    });
    let service = program::CatchPanic { inner };
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let conn = tokio::spawn(conn);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let ended = timeout(LIMIT, conn).await.expect("the connection ends");
    assert!(ended.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_requests_are_inside_until_their_heads_are_ready() {
    let (inside, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let inner = service_fn({
        let (inside, go) = (inside.clone(), go.clone());
        move |_: Request<Empty<Bytes>>| {
            let (inside, go) = (inside.clone(), go.clone());
            async move {
                inside.fetch_add(1, Relaxed);
                go.notified().await;
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
            }
        }
    });
    let service = program::AtMost::new(1, inner);
    let first = tokio::spawn(service.call(get("/")));
    let second = tokio::spawn(service.call(get("/")));
    // With its clock paused, tokio moves it when nothing else is left to do.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(inside.load(Relaxed), 1, "the second waits");
    go.notify_one();
    let response = first.await.unwrap().unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(inside.load(Relaxed), 2, "the body of the first holds no permit");
    drop(response);

    // A client that leaves gives its permit back.
    second.abort();
    let third = tokio::spawn(service.call(get("/")));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(inside.load(Relaxed), 3);
    go.notify_one();
    third.await.unwrap().unwrap();
}

#[test]
fn the_log_counts_the_body_and_times_it() {
    let program = Program::start("middleware");
    let mut connection = program.connect();
    connection.get("/download");
    connection.head().unwrap();
    // The client reads nothing meanwhile, and the buffers of the kernel hold no such body.
    thread::sleep(Duration::from_millis(100));
    while connection.chunk().unwrap().is_some() {}
    let log = line(&program);
    let [head, bytes, whole] = numbers(&log);
    assert_eq!(bytes as usize, DOWNLOAD, "{log}");
    // Both times are rounded down.
    assert!(whole + 1 >= head + 100, "{log}");

    connection.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n");
    connection.head().unwrap();
    assert_eq!(numbers(&line(&program))[1], 0, "hyper asks for no body");
}

#[test]
fn the_log_notices_a_client_that_leaves_in_the_middle_of_a_body() {
    let program = Program::start("middleware");
    let mut connection = program.connect();
    connection.get("/download");
    connection.head().unwrap();
    drop(connection);
    let mut log = program.line();
    if log.starts_with("connection failed: ") {
        log = program.line();
    }
    assert!(log.starts_with("1 GET /download: 200 after "), "{log}");
    let bytes = numbers(&log)[1] as usize;
    assert!(bytes < DOWNLOAD, "{log}");
}

#[test]
fn the_log_notices_a_handler_that_is_dropped() {
    let program = Program::start("middleware");
    let mut stream = TcpStream::connect(program.address).unwrap();
    Connection::new(stream.try_clone().unwrap()).get("/slow");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut lines = [program.line(), program.line()];
    lines.sort();
    let [log, connection] = lines;
    assert!(log.starts_with("1 GET /slow: no response, 0 bytes in "), "{log}");
    assert!(connection.starts_with("connection failed: "), "{connection}");
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    assert_eq!(answer, b"");
}

// Several threads: the client works on while the test waits for a line.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_notices_a_stream_that_is_reset() {
    let program = Program::start("middleware");
    let stream = tokio::net::TcpStream::connect(program.address).await.unwrap();
    let mut client = http2_client(TokioIo::new(stream)).await;
    let slow = tokio::spawn(client.send_request(get("/slow")));
    // The server has the first request once it answers one that came after it.
    client.send_request(get("/")).await.unwrap();
    slow.abort();
    let mut lines = [line(&program), line(&program)];
    lines.sort();
    assert!(lines.iter().any(|line| line.contains(" GET /: 200 ")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains(" /slow: no response")),
        "{lines:?}"
    );
    // The connection goes on.
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), 200);
}

/// One instance of a service handles requests at the same time: what `&self` is for.
#[tokio::test(start_paused = true)]
async fn a_service_is_called_again_before_it_has_answered() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (client, server) = duplex(64 * 1024);
    let service = service_fn({
        let calls = calls.clone();
        move |_: Request<Incoming>| {
            calls.fetch_add(1, Relaxed);
            pending::<Result<Response<Full<Bytes>>, Infallible>>()
        }
    });
    let builder = http2::Builder::new(TokioExecutor::new());
    tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
    let mut client = http2_client(TokioIo::new(client)).await;
    let both = [client.send_request(get("/")), client.send_request(get("/"))];
    let both = both.map(tokio::spawn);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(calls.load(Relaxed), 2);
    for request in both {
        request.abort();
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("middleware");
}
