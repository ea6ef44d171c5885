//! What src/server/echo.md promises.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use harness::{Answer, Connection, LIMIT, Program, page};

use crate::server::hello_world::survives_running_out_of_descriptors;

/// Posts a body of a known length to a new connection.
fn post(program: &Program, path: &str, body: &[u8]) -> Answer {
    let mut connection = program.connect();
    let length = body.len();
    connection.send(format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    ));
    connection.send(body);
    connection.response().unwrap()
}

/// Posts a chunked body, whose length the server cannot know.
fn post_chunked(program: &Program, path: &str, chunks: &[&[u8]]) -> Answer {
    let mut connection = start_chunked(program, path);
    for chunk in chunks {
        send_chunk(&mut connection, chunk);
    }
    connection.send("0\r\n\r\n");
    connection.response().unwrap()
}

fn start_chunked(program: &Program, path: &str) -> Connection {
    let mut connection = program.connect();
    connection.send(format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    connection
}

fn send_chunk(connection: &mut Connection, chunk: &[u8]) {
    connection.send(format!("{:x}\r\n", chunk.len()));
    connection.send(chunk);
    connection.send("\r\n");
}

#[test]
fn the_length_of_the_body_is_passed_on() {
    let program = Program::start("echo");
    let response = post(&program, "/echo", b"hello");
    assert_eq!(response.header("content-length"), Some("5"));
    assert_eq!(response.text(), "hello");

    let response = post_chunked(&program, "/echo", &[b"he", b"llo"]);
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.text(), "hello");
}

#[test]
fn echo_and_uppercase_answer_before_the_body_has_ended() {
    let program = Program::start("echo");
    for (path, answer) in [("/echo", "first"), ("/uppercase", "FIRST")] {
        let mut connection = start_chunked(&program, path);
        send_chunk(&mut connection, b"first");
        connection.head().unwrap();
        assert_eq!(connection.chunk().unwrap().unwrap(), answer.as_bytes());
        connection.send("0\r\n\r\n");
        assert_eq!(connection.chunk().unwrap(), None);
    }
}

#[test]
fn uppercase_is_chunked() {
    let program = Program::start("echo");
    let response = post(&program, "/uppercase", "hello, wörld".as_bytes());
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.text(), "HELLO, WöRLD");
}

#[test]
fn uppercase_without_a_body_has_length_0() {
    let program = Program::start("echo");
    let response = post(&program, "/uppercase", b"");
    assert_eq!(response.header("transfer-encoding"), None);
    let length = page("server/echo")
        .number("A response without a body has content-length: {}.");
    assert_eq!(response.header("content-length"), Some(&*length.to_string()));
}

#[test]
fn uppercase_to_http_1_0_ends_with_the_connection() {
    let program = Program::start("echo");
    let mut connection = program.connect();
    connection.send("POST /uppercase HTTP/1.0\r\ncontent-length: 5\r\n\r\nhello");
    let response = connection.rest().unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(
        !head.contains("transfer-encoding") && !head.contains("content-length"),
        "{head}"
    );
    assert_eq!(body, "HELLO");
}

#[test]
fn bodies_are_reversed_up_to_64_kib() {
    let program = Program::start("echo");
    let mut body = vec![b'a'; 64 * 1024];
    body[0] = b'z';
    let response = post(&program, "/reversed", &body);
    assert_eq!(response.status(), "HTTP/1.1 200 OK");
    assert_eq!(response.body.last(), Some(&b'z'));

    // The length of a chunked body is not known before its end.
    let response =
        post_chunked(&program, "/reversed", &[&body[..30_000], &body[30_000..]]);
    assert_eq!(response.status(), "HTTP/1.1 200 OK");
    assert_eq!(response.body.len(), 64 * 1024);
}

#[test]
fn a_body_over_the_limit_gets_413() {
    let program = Program::start("echo");
    let body = vec![b'a'; 64 * 1024 + 1];
    let response = post(&program, "/reversed", &body);
    assert_eq!(response.status(), "HTTP/1.1 413 Payload Too Large");
    assert_eq!(response.text(), "a body of at most 65536 bytes, please\n");

    let response = post_chunked(&program, "/reversed", &[&body]);
    assert_eq!(response.status(), "HTTP/1.1 413 Payload Too Large");
}

/// How much of too long a body the page promises to discard.
fn max_rest() -> usize {
    let mib = page("server/echo").number("The server reads up to {} MiB more");
    usize::try_from(mib).unwrap() * 1024 * 1024
}

#[test]
fn after_a_413_the_connection_lives_on() {
    let program = Program::start("echo");
    let body = vec![b'a'; 64 * 1024 + max_rest()];
    let length = body.len();
    let mut connection = program.connect();
    connection.send(format!(
        "POST /reversed HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    ));
    connection.send(body);
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 413 Payload Too Large");
    assert_eq!(response.header("connection"), None);
    connection.get("/");
    assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 200 OK");
}

#[test]
fn an_upload_that_does_not_end_is_cut_off() {
    let program = Program::start("echo");
    let mut stream = TcpStream::connect(program.address).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let length = 256 * 1024 * 1024;
    let head = format!(
        "POST /reversed HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut sent = 0;
    while let Ok(count) = stream.write(&[b'a'; 64 * 1024]) {
        sent += count;
        assert!(sent < length, "the server has read the whole body");
    }
}

#[test]
fn too_long_a_body_that_is_announced_is_not_asked_for() {
    let program = Program::start("echo");
    let mut connection = program.connect();
    let head = "POST /reversed HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n";
    connection.send(format!("{head}content-length: {}\r\n\r\n", 64 * 1024 + 1));
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 413 Payload Too Large");
    assert_eq!(response.header("connection"), Some("close"));

    let mut connection = program.connect();
    connection.send(format!("{head}content-length: 2\r\n\r\n"));
    assert_eq!(connection.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    connection.send("hi");
    assert_eq!(connection.response().unwrap().text(), "ih");
}

/// The time that the page gives a body.
fn body_time() -> Duration {
    Duration::from_secs(
        page("server/echo").number("A body has {} seconds, from the end"),
    )
}

/// Asserts that the time of a body has passed since the start, and less than twice of it.
fn assert_cut_off_in_time(start: Instant) {
    let (limit, lasted) = (body_time(), start.elapsed());
    assert!(
        (limit..limit * 2).contains(&lasted),
        "{lasted:?}, and the page says {limit:?}"
    );
}

#[test]
fn a_body_that_stalls_breaks_the_response_off() {
    let program = Program::start("echo");
    let paths = ["/echo", "/uppercase"];
    let start = Instant::now();
    let mut connections = paths.map(|path| start_chunked(&program, path));
    for connection in &mut connections {
        send_chunk(connection, b"first");
        connection.head().unwrap();
        connection.chunk().unwrap().unwrap();
    }
    for connection in &mut connections {
        assert_eq!(connection.rest().unwrap(), "");
        assert_cut_off_in_time(start);
        assert_eq!(
            program.line(),
            "connection failed: error from user's Body stream"
        );
    }
}

#[test]
fn a_body_that_trickles_in_gets_408() {
    let program = Program::start("echo");
    let start = Instant::now();
    let mut stream = TcpStream::connect(program.address).unwrap();
    let mut connection = Connection::new(stream.try_clone().unwrap());
    connection
        .send("POST /reversed HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n");
    let answered = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !answered.load(Relaxed) && stream.write_all(b"a").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let response = connection.response();
        answered.store(true, Relaxed);
        let response = response.unwrap();
        assert_eq!(response.status(), "HTTP/1.1 408 Request Timeout");
        assert_eq!(response.header("connection"), Some("close"));
        assert_cut_off_in_time(start);
    });
}

/// The rest of too long a body has no more time than any other.
#[test]
fn after_a_413_before_the_end_the_connection_closes() {
    let program = Program::start("echo");
    let start = Instant::now();
    let mut connection = program.connect();
    let head = "POST /reversed HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    connection.send(head);
    connection.send(vec![b'a'; 64 * 1024 + 1]);
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 413 Payload Too Large");
    assert_eq!(response.header("connection"), Some("close"));
    assert_cut_off_in_time(start);
}

#[test]
fn a_body_that_breaks_gets_400() {
    let program = Program::start("echo");
    let mut connection = start_chunked(&program, "/reversed");
    connection.send("not a length\r\n");
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 400 Bad Request");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.text(), "error reading a body from connection\n");
}

#[tokio::test]
async fn a_chunked_upload_announces_no_length() {
    let (mut client, server) = tokio::io::duplex(1024);
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n";
    let request = format!("{head}connection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let upper = format!("{:?}", request.body().size_hint().upper());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(upper)))
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(server), service)
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nNone"), "{answer}");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let program = Program::start("echo");
    let mut stream = TcpStream::connect(program.address).unwrap();
    let length = 256 * 1024 * 1024;
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    let error = loop {
        match stream.write(&[b'a'; 64 * 1024]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < length, "the server has taken {sent} bytes that nobody reads");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn trailers_do_not_disturb() {
    let program = Program::start("echo");
    let mut connection = start_chunked(&program, "/uppercase");
    send_chunk(&mut connection, b"hello");
    connection.send("0\r\nchecksum: 42\r\n\r\n");
    assert_eq!(connection.response().unwrap().text(), "HELLO");
    connection.get("/");
    assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn an_error_of_a_body_has_its_cause() {
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let service = service_fn(async |_: Request<Incoming>| {
        let slow = Full::<Bytes>::from("x")
            .map_err(|never| -> io::Error { match never {} })
            .with_trailers(std::future::ready(Some(Err(io::Error::other(
                "too slow",
            )))));
        Ok::<_, Infallible>(Response::new(slow.map_frame(|frame| frame)))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let error = conn.await.expect_err("the body fails");
    assert_eq!(error.to_string(), "error from user's Body stream");
    assert_eq!(error.source().unwrap().to_string(), "too slow");
}

/// A body that is `Send` and not `Sync`, served by a task.
#[tokio::test]
async fn a_body_need_not_be_sync() {
    let (mut client, server) = tokio::io::duplex(1024);
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let service = service_fn(async |_: Request<Incoming>| {
        let not_sync = Cell::new(());
        let body = Full::<Bytes>::from("hello").map_frame(move |frame| {
            not_sync.set(());
            frame
        });
        Ok::<_, Infallible>(Response::new(body.boxed_unsync()))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(conn).await.unwrap().unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("hello"), "{answer}");
}

#[tokio::test]
async fn trailers_of_a_request_are_its_last_frame() {
    let (mut client, server) = tokio::io::duplex(1024);
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n";
    let body = "2\r\nhi\r\n0\r\nchecksum: 42\r\n\r\n";
    let request = format!("{head}connection: close\r\n\r\n{body}");
    client.write_all(request.as_bytes()).await.unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let mut body = request.into_body();
        let mut last = None;
        while let Some(frame) = body.frame().await {
            last = Some(frame?);
        }
        let trailers = last.unwrap().into_trailers().unwrap();
        let checksum = Bytes::copy_from_slice(trailers[CHECKSUM].as_bytes());
        Ok::<_, hyper::Error>(Response::new(Full::new(checksum)))
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(server), service)
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\n42"), "{answer}");
}

/// Trailers reach a client only if it has asked, and the response is chunked and has named them.
#[tokio::test]
async fn trailers_are_asked_for_and_named() {
    for (asked, named) in [(true, true), (true, false), (false, true)] {
        let (mut client, server) = tokio::io::duplex(1024);
        let te = if asked { "te: trailers\r\n" } else { "" };
        let request =
            format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{te}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let service = service_fn(async |_: Request<Incoming>| {
            let trailers =
                HeaderMap::from_iter([(CHECKSUM, HeaderValue::from_static("42"))]);
            // `map_frame` forgets the length, so the response is chunked.
            let body = Full::<Bytes>::from("hello")
                .map_frame(|frame| frame)
                .with_trailers(std::future::ready(Some(Ok(trailers))));
            let mut response = Response::new(body);
            if named {
                response
                    .headers_mut()
                    .insert("trailer", HeaderValue::from_static("checksum"));
            }
            Ok::<_, Infallible>(response)
        });
        let conn =
            http1::Builder::new().serve_connection(TokioIo::new(server), service);
        conn.await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.contains("checksum: 42"), asked && named, "{answer}");
    }
}

const CHECKSUM: HeaderName = HeaderName::from_static("checksum");

#[test]
fn other_paths_and_methods_get_404() {
    let program = Program::start("echo");
    let mut connection = program.connect();
    for path in ["/nowhere", "/echo"] {
        connection.get(path);
        assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 404 Not Found");
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("echo");
}
