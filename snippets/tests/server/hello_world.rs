//! What src/server/hello-world.md promises.

use std::convert::Infallible;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use harness::{Connection, LIMIT, Program, page};

#[test]
fn a_connection_carries_many_requests() {
    let program = Program::start("hello-world");
    let mut connection = program.connect();
    for _ in 0..3 {
        connection.get("/");
        let response = connection.response().unwrap();
        assert_eq!(response.status(), "HTTP/1.1 200 OK");
        assert_eq!(response.text(), "Hello, World!\n");
    }
}

#[test]
fn connections_do_not_wait_for_each_other() {
    let program = Program::start("hello-world");
    let mut silent = program.connect();
    silent.send("GET /");
    let mut other = program.connect();
    other.get("/");
    assert_eq!(other.response().unwrap().text(), "Hello, World!\n");
}

/// The time that the page gives a client to send a request head.
fn header_limit() -> Duration {
    Duration::from_secs(page("server/hello-world").number("this server allows {}."))
}

#[test]
fn a_silent_connection_is_closed() {
    let program = Program::start("hello-world");
    let start = Instant::now();
    let mut connection = program.connect();
    assert_eq!(connection.rest().unwrap(), "");
    assert_lasted(header_limit(), start);
    assert_eq!(program.line(), "connection failed: read header from client timeout");
}

#[test]
fn a_half_sent_head_is_cut_off() {
    let program = Program::start("hello-world");
    let start = Instant::now();
    let mut connection = program.connect();
    connection.send("GET / HTTP/1.1\r\nhost: ");
    assert_eq!(connection.rest().unwrap(), "");
    assert_lasted(header_limit(), start);
    assert_eq!(program.line(), "connection failed: read header from client timeout");
}

#[test]
fn an_idle_connection_is_closed() {
    let page = page("server/hello-world");
    let limit =
        page.number("A client that sends no request for {} seconds is disconnected");
    let program = Program::start("hello-world");
    let mut connection = program.connect();
    let start = Instant::now();
    connection.get("/");
    connection.response().unwrap();
    assert_eq!(connection.rest().unwrap(), "");
    assert_lasted(Duration::from_secs(limit), start);
    assert_eq!(program.line(), "connection failed: read header from client timeout");
}

/// Asserts that this time has passed since the start, and less than twice of it.
fn assert_lasted(limit: Duration, start: Instant) {
    let lasted = start.elapsed();
    assert!(
        (limit..limit * 2).contains(&lasted),
        "{lasted:?}, and the page says {limit:?}"
    );
}

#[test]
fn what_is_not_http_gets_400() {
    let program = Program::start("hello-world");
    let mut connection = program.connect();
    connection.send("\x16\x03\x01\x02 that was TLS\r\n\r\n");
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 400 Bad Request");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(program.line(), "connection failed: invalid HTTP method parsed");
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("hello-world");
}

/// Opens connections until the program has no descriptor left, closes them, and asks again.
/// Meanwhile the program must pause after each failed accept.
pub fn survives_running_out_of_descriptors(name: &str) {
    let mut program = Program::start_with_descriptors(name, 20);
    let connections: Vec<Connection> = (0..30).map(|_| program.connect()).collect();
    let failed = "accept failed: Too many open files (os error 24)";
    assert_eq!(program.line(), failed);
    let start = Instant::now();
    thread::sleep(Duration::from_millis(500));
    drop(connections);
    let mut connection = program.connect();
    connection.get("/");
    connection.response().unwrap();
    // A loop without a pause prints this many lines in a few milliseconds.
    let most = 100 * (start.elapsed().as_secs() as usize + 1);
    program.signal("KILL");
    let (_, lines) = program.wait();
    let count = lines.iter().filter(|line| *line == failed).count();
    assert!(count <= most, "accept failed {count} times, so there is no pause");
}

#[test]
fn an_address_in_use_is_an_error() {
    let program = Program::start("hello-world");
    let second = Command::new(harness::cargo::program("hello-world"))
        .arg(program.address.to_string())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let printed = String::from_utf8(second.stderr).unwrap();
    assert_eq!(
        printed.trim_end(),
        "Error: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }"
    );
}

/// In a task of its own, as in the program: each connection panics, and nothing else does.
#[tokio::test]
async fn a_timeout_without_a_timer_panics_in_each_connection() {
    for _ in 0..2 {
        let (mut client, server) = tokio::io::duplex(1024);
        let conn = tokio::spawn(async move {
            http1::Builder::new()
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(TokioIo::new(server), service_fn(empty))
                .await
        });
        let panic = conn.await.expect_err("a timeout and no timer").into_panic();
        let message = panic.downcast_ref::<String>().unwrap();
        assert_eq!(message, "timeout `header_read_timeout` set, but no timer set");
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "no response");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_timer_a_half_sent_head_is_kept_for_ever() {
    let (client, conn) = half_sent_head(http1::Builder::new()).await;
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, conn).await.is_err(), "the connection is still open");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn with_a_timer_alone_a_half_sent_head_has_the_default_limit() {
    let page = page("server/hello-world");
    let limit = page.number("a client has {} seconds to send a request head");
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let (mut client, conn) = half_sent_head(builder).await;
    let start = tokio::time::Instant::now();
    let error = conn.await.expect_err("the head is not whole");
    assert_eq!(error.to_string(), "read header from client timeout");
    assert!(error.is_timeout());
    assert_eq!(start.elapsed().as_secs(), limit);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_header_timeout_does_not_cover_bodies() {
    let (mut client, server) = tokio::io::duplex(1024);
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    tokio::spawn(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5))
            .serve_connection(TokioIo::new(server), service_fn(collect)),
    );
    tokio::time::sleep(Duration::from_secs(3600)).await;
    client.write_all(b"ok").await.unwrap();
    let mut status = [0; 15];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}

async fn collect(
    request: Request<Incoming>,
) -> hyper::Result<Response<Empty<Bytes>>> {
    request.into_body().collect().await?;
    Ok(Response::new(Empty::new()))
}

/// What the page leaves open: the client has room for one response, and sends requests.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_keeps_its_connection() {
    let (mut client, server) = tokio::io::duplex(1024);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
    let conn = builder.serve_connection(TokioIo::new(server), service_fn(empty));
    let conn = tokio::spawn(conn);
    let requests = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100_000);
    let hour = Duration::from_secs(3600);
    let written = timeout(hour, client.write_all(requests.as_bytes())).await;
    assert!(written.is_err(), "the server takes no more requests");
    assert!(!conn.is_finished(), "the connection is still open");
}

#[tokio::test]
async fn over_http1_an_error_of_the_service_closes_the_connection() {
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let conn = http1::Builder::new()
        .serve_connection(TokioIo::new(server), service_fn(fails_unless_root));
    let error = conn.await.expect_err("the service has failed");
    assert_eq!(error.to_string(), "error from user's Service");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"", "no response");
}

#[tokio::test]
async fn over_http2_an_error_of_the_service_resets_one_stream() {
    let (client, server) = tokio::io::duplex(1024);
    let conn = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), service_fn(fails_unless_root));
    tokio::spawn(conn);
    let (mut sender, conn) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(conn);
    let get = |path: &str| Request::get(path).body(Empty::<Bytes>::new()).unwrap();
    let error = sender.send_request(get("http://x/x")).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("stream error received"), "{cause}");
    sender.send_request(get("http://x/")).await.expect("the connection goes on");
}

async fn fails_unless_root(
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, &'static str> {
    match request.uri().path() {
        "/" => Ok(Response::new(Empty::new())),
        _ => Err("no response"),
    }
}

#[test]
fn a_runtime_waits_for_blocking_closures() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (running, is_running) = channel();
    let ended = Arc::new(AtomicBool::new(false));
    let end = ended.clone();
    runtime.spawn_blocking(move || {
        running.send(()).unwrap();
        thread::sleep(Duration::from_millis(200));
        end.store(true, Relaxed);
    });
    is_running.recv_timeout(LIMIT).unwrap();
    drop(runtime);
    assert!(ended.load(Relaxed), "the closure has run to its end");
}

#[tokio::test]
async fn over_http1_handler_and_body_run_in_the_task_of_the_connection() {
    let (client, server) = tokio::io::duplex(1024);
    let conn = http1::Builder::new()
        .serve_connection(TokioIo::new(server), service_fn(tasks));
    let connection = tokio::spawn(conn).id();
    let (mut sender, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(conn);
    let answer = sender.send_request(Request::new(Empty::<Bytes>::new())).await;
    assert_eq!(text(answer).await, format!("{connection} {connection}"));
}

#[tokio::test]
async fn over_http2_handler_and_body_run_in_a_task_of_the_request() {
    let (client, server) = tokio::io::duplex(1024);
    let conn = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), service_fn(tasks));
    let connection = tokio::spawn(conn).id().to_string();
    let (mut sender, conn) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(conn);
    let mut seen = vec![connection];
    for _ in 0..2 {
        let answer = sender.send_request(Request::new(Empty::<Bytes>::new())).await;
        let answer = text(answer).await;
        let (handler, body) = answer.split_once(' ').unwrap();
        assert_eq!(handler, body);
        assert!(!seen.contains(&handler.to_owned()), "{handler} is new: {seen:?}");
        seen.push(handler.to_owned());
    }
}

/// Answers with the ids of the tasks that run the handler, and the body.
async fn tasks(
    _: Request<Incoming>,
) -> Result<
    Response<
        StreamBody<impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>>>,
    >,
    Infallible,
> {
    let handler = tokio::task::id();
    let body = stream::once(async move {
        let ids = format!("{handler} {}", tokio::task::id());
        Ok(Frame::data(Bytes::from(ids)))
    });
    Ok(Response::new(StreamBody::new(body)))
}

async fn text(answer: hyper::Result<Response<Incoming>>) -> String {
    let body = answer.unwrap().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// A connection on which half a request head has come, and its client.
async fn half_sent_head(
    builder: http1::Builder,
) -> (DuplexStream, impl Future<Output = hyper::Result<()>>) {
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    (client, builder.serve_connection(TokioIo::new(server), service_fn(empty)))
}

async fn empty(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    Ok(Response::new(Empty::new()))
}
