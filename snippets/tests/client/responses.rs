//! What src/client/responses.md promises.

use std::convert::Infallible;
use std::process::Command;
use std::thread;
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame};
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

use harness::{Connection, Program, Prose, Server, page};

/// The program itself, for tests with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/responses.rs"]
mod program;

fn responses() -> Prose {
    page("client/responses")
}

fn max_body() -> usize {
    responses().number("A body of more than {} bytes") as usize
}

fn max_line() -> usize {
    responses().number("A line of more than {} bytes") as usize
}

fn idle() -> Duration {
    Duration::from_secs(
        responses().number("without a new piece, or a whole line, for {} seconds"),
    )
}

fn total() -> Duration {
    Duration::from_secs(responses().number("After {} seconds get_in_time gives up"))
}

/// Runs the program against a server that answers with these bytes, and then closes the connection.
/// The head of the request, the status, and what the program prints.
fn answered(bytes: impl AsRef<[u8]>, how: &str) -> (String, i32, String) {
    let server = Server::start();
    let mut client = Program::client("responses", &[&server.url("/"), how]);
    let mut connection = server.accept();
    let request = connection.head().unwrap();
    connection.send(bytes);
    drop(connection);
    let (status, lines) = client.wait();
    (request, status.code().unwrap(), lines.join("\n"))
}

fn with_length(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn chunked(body: &str) -> String {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    format!("{HEAD}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

// The size and the status.

#[test]
fn a_body_of_the_limit_is_read_and_one_more_byte_is_an_error() {
    let most = "x".repeat(max_body());
    for answer in [with_length, chunked] {
        let (_, status, printed) = answered(answer(&most), "");
        assert!(
            status == 0 && printed.contains(&most),
            "the limit is too low: {:.90}",
            printed
        );
        let (_, status, printed) = answered(answer(&format!("{most}x")), "");
        assert_eq!(status, 1, "the limit does not hold: {printed:.90}");
        assert!(
            printed.ends_with("length limit exceeded"),
            "another error stops it: {printed:.90}"
        );
    }
}

#[tokio::test]
async fn too_long_is_told_from_other_errors_by_its_type() {
    let body = Full::new(Bytes::from(vec![b'x'; max_body() + 1]));
    let error = program::text(body).await.unwrap_err();
    assert!(error.is::<LengthLimitError>(), "{error:?}");
    assert_eq!(error.to_string(), "length limit exceeded");
}

#[test]
fn a_404_is_a_response_and_the_program_makes_it_an_error() {
    let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\n\r\nno page\n";
    let (_, status, printed) = answered(answer, "");
    assert_eq!((status, &*printed), (1, "404 Not Found: no page"));
}

#[test]
fn a_status_is_reported_even_if_its_body_cannot_be_read() {
    let head = "HTTP/1.1 500 Internal Server Error\r\n";
    for (rest, why) in [
        ("content-length: 4\r\n\r\n\x1f\u{8b}", "invalid utf-8 sequence"),
        ("content-length: 99\r\n\r\nhi", "error reading a body from connection"),
        ("content-length: 99999999\r\n\r\n", "error reading a body"),
    ] {
        let rest = rest.replace('\u{8b}', "\u{8b}");
        let (_, status, printed) = answered(format!("{head}{rest}"), "");
        println!("{status} {printed} {why}");
    }
}

#[test]
fn the_length_is_printed_if_it_is_known() {
    let (_, _, printed) = answered(with_length("hi\n"), "");
    assert_eq!(printed, "200 OK, 3 bytes\nhi");
    let (_, _, printed) = answered(chunked("hi\n"), "");
    assert_eq!(printed, "200 OK, length unknown\nhi");
    let (_, _, printed) = answered("HTTP/1.1 200 OK\r\n\r\nhi\n", "");
    assert_eq!(printed, "200 OK, length unknown\nhi");
}

#[test]
fn limited_gives_its_limit_as_the_length_of_a_longer_body() {
    let body = Limited::new(Full::new(Bytes::from("hello")), 2);
    assert_eq!(body.size_hint().exact(), Some(2));
}

// A body that is cut short.

#[test]
fn cuts() {
    for how in ["", "pieces", "values"] {
        for bytes in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n1\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n1\n",
            "HTTP/1.1 200 OK\r\n\r\n1\n2",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\":",
        ] {
            let (_, status, printed) = answered(bytes, how);
            println!("{how} {bytes:?} -> {status} {printed:?}");
        }
    }
    for bytes in [
        with_length("1\n\n2"),
        with_length("1\n{\n"),
        with_length("\"a\"\r\n[1, {}]"),
    ] {
        let (_, status, printed) = answered(&bytes, "values");
        println!("{bytes:?} -> {status} {printed:?}");
    }
}

async fn connect() -> (http1::SendRequest<Empty<Bytes>>, DuplexStream) {
    let (client, server) = duplex(1 << 20);
    let (sender, connection) =
        http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    (sender, server)
}

#[tokio::test]
async fn drops() {
    for bytes in [
        with_length("hi"),
        with_length(&"x".repeat(5_000)),
        with_length(&"x".repeat(50_000)),
        with_length(&"x".repeat(500_000)),
        chunked("hi"),
        with_length("hi").replace(": 2", ": 3"),
    ] {
        let (mut sender, mut server) = connect().await;
        let request = sender.send_request(Request::new(Empty::new()));
        let play = async {
            server.read(&mut [0; 1000]).await.unwrap();
            server.write_all(bytes.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(request, play);
        drop(response.unwrap());
        let ready = timeout(Duration::from_secs(1), sender.ready()).await;
        println!("{:.60?} {} {ready:?}", bytes, bytes.len());
    }
}
