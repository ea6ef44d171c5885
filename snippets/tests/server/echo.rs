//! What src/server/echo.md promises.

use std::convert::Infallible;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use harness::{Answer, Connection, Program};

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
fn uppercase_is_chunked_whatever_came_in() {
    let program = Program::start("echo");
    let response = post(&program, "/uppercase", "hello, wörld".as_bytes());
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.text(), "HELLO, WöRLD");
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

#[test]
fn a_body_that_breaks_gets_400() {
    let program = Program::start("echo");
    let mut connection = start_chunked(&program, "/reversed");
    connection.send("not a length\r\n");
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 400 Bad Request");
    assert_eq!(response.text(), "error reading a body from connection\n");
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
