//! What src/client/responses.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::future::{poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::Reason;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::header::{ETAG, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use harness::{LIMIT, Program, Prose, Server, page};

#[cfg(target_os = "linux")]
use super::failures::nobody_accepts;

const TOO_LONG: &str = "length limit exceeded";
const CUT: &str =
    "error reading a body from connection: end of file before message length reached";
const CUT_BETWEEN_CHUNKS: &str =
    "error reading a body from connection: unexpected EOF during chunk size line";

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
        responses().number("gives up without a new piece for {} seconds"),
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
        assert!(printed.ends_with(TOO_LONG), "another error stops it: {printed:.90}");
    }
}

#[tokio::test]
async fn too_long_is_told_from_other_errors_by_its_type() {
    let body = Full::new(Bytes::from(vec![b'x'; max_body() + 1]));
    let error = program::text(body).await.unwrap_err();
    assert!(error.is::<LengthLimitError>(), "{error:?}");
    assert_eq!(error.to_string(), TOO_LONG);
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
    let long = "x".repeat(max_body() + 1);
    for (rest, why) in [
        ("content-length: 9\r\n\r\nhi", CUT),
        (&*format!("content-length: {}\r\n\r\n{long}", long.len()), TOO_LONG),
    ] {
        let (_, status, printed) = answered(format!("{head}{rest}"), "");
        let expected = format!("500 Internal Server Error: {why}");
        assert_eq!((status, printed), (1, expected));
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
fn a_body_that_is_cut_short_is_an_error_if_its_end_is_known() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for how in ["", "pieces", "values"] {
        for (cut, error) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1\n", CUT),
            (&*format!("{CHUNKED}9\r\n1\n"), CUT),
            (&*format!("{CHUNKED}2\r\n1\n\r\n"), CUT_BETWEEN_CHUNKS),
        ] {
            let (_, status, printed) = answered(cut, how);
            assert_eq!(status, 1, "{how}: a part passes for the whole: {printed}");
            assert!(printed.ends_with(error), "{how}: {printed}");
        }
        let (_, status, printed) = answered("HTTP/1.1 200 OK\r\n\r\n1\n", how);
        assert_eq!(status, 0, "{how}: the close is the end of this body: {printed}");
    }
}

#[tokio::test]
async fn a_response_in_another_encoding_ends_with_its_connection() {
    responses().says("A response whose transfer-encoding is not chunked, such as identity, also ends with its connection.");
    let (mut sender, mut far) = connect().await;
    let request = Request::new(Empty::<Bytes>::new());
    sender.ready().await.unwrap();
    let response = sender.send_request(request);
    far.read_u8().await.unwrap();
    far.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n2\r\nhi").await.unwrap();
    drop(far);
    let body = response.await.unwrap().into_body().collect().await;
    assert_eq!(body.unwrap().to_bytes(), "2\r\nhi", "as it is, and without an error");
}

#[tokio::test]
async fn over_http2_a_reset_is_an_error_but_no_error_is_a_complete_body() {
    for (reason, whole) in [(Reason::INTERNAL_ERROR, false), (Reason::NO_ERROR, true)]
    {
        let (client, server) = duplex(1 << 16);
        let read = Arc::new(Notify::new());
        let seen = read.clone();
        tokio::spawn(async move {
            let mut server = h2::server::handshake(server).await.unwrap();
            let (_, mut respond) = server.accept().await.unwrap().unwrap();
            let head = Response::builder().header("content-length", 10);
            let mut send =
                respond.send_response(head.body(()).unwrap(), false).unwrap();
            send.send_data(Bytes::from("four"), false).unwrap();
            tokio::spawn(async move {
                seen.notified().await;
                send.send_reset(reason);
            });
            while server.accept().await.is_some() {}
        });
        let executor = TokioExecutor::new();
        let (mut sender, connection) =
            http2::handshake(executor, TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(10));
        let mut body = response.into_body();
        assert_eq!(body.size_hint().lower(), 10);
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "four");
        read.notify_one();
        let rest =
            timeout(LIMIT, (&mut body).collect()).await.expect("the body ends");
        match rest {
            Ok(rest) => {
                assert!(whole && rest.to_bytes().is_empty(), "{reason}");
                assert_eq!(body.size_hint().lower(), 6, "the missing bytes");
            }
            Err(error) => {
                assert!(!whole, "{reason}");
                assert_eq!(error.to_string(), "error reading a body from connection");
            }
        }
    }
}

/// A body that ends, and whose length was to be another one.
struct Early(Full<Bytes>, u64);

impl Body for Early {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.size_hint().lower() + self.1)
    }
}

#[tokio::test]
async fn the_program_notices_the_end_that_hyper_takes_for_a_complete_body() {
    let early = |missing| Early(Full::from("1\n"), missing);
    let mut to = Vec::new();
    program::text(early(0)).await.unwrap();
    program::pieces(early(0), &mut to).await.unwrap();
    program::values(early(0), &mut to).await.unwrap();
    for error in [
        program::text(early(7)).await.unwrap_err(),
        program::pieces(early(7), &mut to).await.unwrap_err(),
        program::values(early(7), &mut to).await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "the body ended 7 bytes early");
    }
}

// JSON lines.

#[test]
fn each_line_is_a_value_also_the_last_without_its_end() {
    let (_, status, printed) =
        answered(with_length("{\"a\": 1}\r\n[1, 2]\n\"end\""), "values");
    assert_eq!(status, 0, "{printed}");
    let expected = "200 OK, 22 bytes\nvalue: {\"a\":1}\nvalue: [1,2]\nvalue: \"end\"";
    assert_eq!(printed, expected);
}

#[test]
fn a_value_is_seen_before_the_body_ends() {
    let server = Server::start();
    let client = Program::client("responses", &[&server.url("/"), "values"]);
    let mut connection = server.accept();
    connection.head().unwrap();
    connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(client.line(), "200 OK, length unknown");
    // Two chunks, one line.
    connection.send("2\r\n[1\r\n4\r\n,2]\n\r\n");
    assert_eq!(client.line(), "value: [1,2]");
}

#[test]
fn a_line_of_the_limit_is_read_and_one_more_byte_is_an_error() {
    let line = |length| format!("\"{}\"\n1\n", "x".repeat(length - 2));
    let (_, status, printed) = answered(with_length(&line(max_line())), "values");
    assert_eq!(status, 0, "the limit is too low: {printed:.90}");
    for answer in [with_length, chunked] {
        let (_, status, printed) = answered(answer(&line(max_line() + 1)), "values");
        assert_eq!(status, 1, "the limit does not hold: {printed:.90}");
        assert!(printed.ends_with("max line length exceeded"), "{printed:.90}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_without_an_end_is_refused_before_it_ends() {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; 1000]);
        while sender.send_data(piece.clone()).await.is_ok() {}
    });
    let error = timeout(LIMIT, program::values(body, &mut Vec::new())).await;
    let error = error.expect("a line may go on for ever").unwrap_err();
    assert_eq!(error.to_string(), "max line length exceeded");
}

#[test]
fn an_empty_line_is_not_json() {
    let (_, status, printed) = answered(with_length("1\n\n2\n"), "values");
    assert_eq!(status, 1, "{printed}");
    assert!(printed.ends_with("EOF while parsing a value at line 1 column 0"));
}

// Time.

#[tokio::test(start_paused = true)]
async fn a_body_may_pause_for_the_limit_but_not_longer() {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let start = Instant::now();
    tokio::spawn(async move {
        for _ in 0..3 {
            sleep(idle() - Duration::from_secs(1)).await;
            sender.send_data(Bytes::from("hi")).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let mut read = Vec::new();
    let error = timeout(10 * total(), program::pieces(body, &mut read)).await;
    let error = error.expect("a body may stall for ever").unwrap_err();
    assert_eq!((&*error.to_string(), &*read), ("the body stalled", &b"hihihi"[..]));
    let whole = 3 * (idle() - Duration::from_secs(1)) + idle();
    assert_eq!(start.elapsed().as_secs(), whole.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_trickles_in_has_one_limit() {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let start = Instant::now();
    tokio::spawn(async move {
        while sender.send_data(Bytes::from("1")).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let error = timeout(10 * total(), program::values(body, &mut Vec::new())).await;
    let error = error.expect("a line may take for ever").unwrap_err();
    assert_eq!(error.to_string(), "the body stalled");
    assert_eq!(start.elapsed().as_secs(), idle().as_secs());
}

/// The server does nothing, or stops in its body.
#[tokio::test(start_paused = true)]
async fn the_total_limit_covers_the_head_and_the_body() {
    let total = total(); // reads the book, which takes its time
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"] {
        let server = Server::start();
        let url = server.url("/");
        let play = tokio::task::spawn_blocking(move || {
            let mut connection = server.accept();
            connection.head().unwrap();
            connection.send(answer);
            connection // stays open
        });
        let start = Instant::now();
        let error = timeout(10 * total, program::get_in_time(&url, "")).await;
        let error = error.expect("nothing ends the wait").unwrap_err();
        assert_eq!(error.to_string(), "the whole response took too long");
        assert_eq!(start.elapsed().as_secs(), total.as_secs());
        drop(play.await.unwrap());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn the_limit_covers_the_connect() {
    let seconds = total().as_secs();
    let (url, _full) = nobody_accepts();
    let start = Instant::now();
    let error = program::get_in_time(&url, "").await.unwrap_err();
    assert_eq!(error.to_string(), "the whole response took too long");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

#[test]
fn a_port_that_is_too_large_is_refused() {
    let (status, lines) =
        Program::client("responses", &["http://127.0.0.1:99999/"]).wait();
    assert_eq!(lines, ["the port is not a number up to 65535"]);
    assert_eq!(status.code(), Some(1));
}

// Before and after the body.

#[test]
fn early_hints_are_printed_before_the_response_comes() {
    let server = Server::start();
    let mut client = Program::client("responses", &[&server.url("/")]);
    let mut connection = server.accept();
    connection.head().unwrap();
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
    connection.send(hint);
    let printed = client.line();
    assert_eq!(printed, "103 Early Hints: Some(\"</a.css>; rel=preload\")");
    connection.send(hint);
    assert_eq!(client.line(), printed, "each hint is seen");
    connection.send(with_length("hi\n"));
    let (status, lines) = client.wait();
    assert_eq!(
        (status.code(), lines.join("\n")),
        (Some(0), "200 OK, 3 bytes\nhi".into())
    );
}

#[tokio::test]
async fn over_http2_early_hints_are_not_seen() {
    let (client, server) = duplex(1 << 16);
    tokio::spawn(async move {
        let mut server = h2::server::handshake(server).await.unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let hint = Response::builder().status(103).body(()).unwrap();
        respond.send_informational(hint).unwrap();
        respond.send_response(Response::new(()), true).unwrap();
        while server.accept().await.is_some() {}
    });
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let mut request =
        Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
    hyper::ext::on_informational(&mut request, |hint| {
        panic!("{}: hyper has learnt it, the page must change", hint.status())
    });
    let response = timeout(LIMIT, sender.send_request(request)).await.unwrap();
    assert_eq!(response.unwrap().status(), 200);
}

#[test]
fn trailers_are_asked_for_and_read() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                  3\r\nhi\n\r\n0\r\nchecksum: 7\r\n\r\n";
    let (request, status, printed) = answered(answer, "pieces");
    assert!(request.contains("\r\nte: trailers\r\n"), "{request}");
    assert_eq!(status, 0, "{printed}");
    let expected =
        "200 OK, length unknown\nhi\ntrailers: Some({\"checksum\": \"7\"})";
    assert_eq!(printed, expected);
}

#[tokio::test]
async fn collect_keeps_the_trailers() {
    let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from(7))]);
    let body = Full::new(Bytes::from("hi")).with_trailers(ready(Some(Ok(trailers))));
    let body = body.collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()[ETAG], "7");
}

// A body that is dropped.

async fn connect() -> (http1::SendRequest<Empty<Bytes>>, DuplexStream) {
    let (client, server) = duplex(1 << 20);
    let (sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    (sender, server)
}

/// Whether the connection takes another request after this response was dropped unread.
async fn reused(bytes: &str) -> bool {
    let (mut sender, mut server) = connect().await;
    let request = sender.send_request(Request::new(Empty::new()));
    let play = async {
        assert!(server.read(&mut [0; 1000]).await.unwrap() > 0);
        server.write_all(bytes.as_bytes()).await.unwrap();
    };
    let (response, ()) = tokio::join!(request, play);
    drop(response.unwrap());
    let ready = timeout(LIMIT, sender.ready()).await;
    if ready.expect("it is ready or closed").is_ok() {
        return true;
    }
    let read = timeout(LIMIT, server.read(&mut [0; 1000])).await;
    assert_eq!(read.expect("the server sees the close").unwrap(), 0);
    false
}

#[tokio::test]
async fn a_dropped_body_that_came_with_its_head_leaves_the_connection_usable() {
    assert!(reused(&with_length("hi")).await);
    assert!(reused(&chunked("hi")).await);
}

#[tokio::test]
async fn a_dropped_body_of_which_bytes_are_to_come_closes_the_connection() {
    assert!(!reused(&with_length("hi").replace(": 2", ": 3")).await);
    assert!(!reused(&chunked("hi").replace("0\r\n\r\n", "")).await);
}

/// hyper looks for the rest only once.
#[tokio::test]
async fn a_dropped_body_that_came_in_pieces_closes_the_connection() {
    let two = chunked("hi").replace("0\r\n\r\n", "2\r\nho\r\n0\r\n\r\n");
    assert!(!reused(&two).await);
    assert!(!reused(&with_length(&"x".repeat(500_000))).await);
}

#[tokio::test]
async fn over_http2_a_dropped_body_ends_its_stream_alone() {
    let (client, server) = duplex(1 << 16);
    let server = tokio::spawn(async move {
        let mut server = h2::server::handshake(server).await.unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from("part"), false).unwrap();
        // The second request comes on the same connection.
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        respond.send_response(Response::new(()), true).unwrap();
        while server.accept().await.is_some() {}
        poll_fn(|cx| send.poll_reset(cx)).await
    });
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new());
        let response = timeout(LIMIT, sender.send_request(request.unwrap())).await;
        drop(response.expect("the connection answers").unwrap());
    }
    drop(sender);
    let reset = timeout(LIMIT, server).await.expect("the client leaves").unwrap();
    assert_eq!(reset.unwrap(), Reason::CANCEL);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_read_makes_the_server_wait() {
    let (mut sender, mut server) = connect().await;
    let request = sender.send_request(Request::new(Empty::new()));
    let play = async {
        assert!(server.read(&mut [0; 1000]).await.unwrap() > 0);
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    };
    let (response, ()) = tokio::join!(request, play);
    let much = vec![b'x'; 10_000_000];
    let written = timeout(LIMIT, server.write_all(&much)).await;
    assert!(written.is_err(), "hyper reads on while nobody takes the body");
    drop(response);
}

#[tokio::test]
async fn the_error_of_a_cut_body_is_known_by_its_cause_alone() {
    let (mut sender, mut server) = connect().await;
    let request = sender.send_request(Request::new(Empty::new()));
    let play = async {
        assert!(server.read(&mut [0; 1000]).await.unwrap() > 0);
        let cut = with_length("hi").replace(": 2", ": 3");
        server.write_all(cut.as_bytes()).await.unwrap();
        drop(server);
    };
    let (response, ()) = tokio::join!(request, play);
    let error = response.unwrap().into_body().collect().await.unwrap_err();
    let flags = [
        error.is_body_write_aborted(),
        error.is_canceled(),
        error.is_closed(),
        error.is_incomplete_message(),
        error.is_parse(),
        error.is_parse_status(),
        error.is_parse_too_large(),
        error.is_shutdown(),
        error.is_timeout(),
        error.is_user(),
    ];
    assert_eq!(flags, [false; 10], "{error:?}");
    let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::UnexpectedEof);
}

// Servers that others wrote.

#[test]
#[ignore = "needs python3"]
fn others_python_serves_a_file_and_a_404() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("values"), "1\n[2]\n").unwrap();
    let server = Program::of_others(|port| {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
        command.current_dir(folder.path());
        command
    });
    let get = |path: &str, how: &str| {
        let url = format!("http://{}{path}", server.address);
        let (status, lines) = Program::client("responses", &[&url, how]).wait();
        (status.code().unwrap(), lines.join("\n"))
    };
    assert_eq!(get("/values", ""), (0, "200 OK, 6 bytes\n1\n[2]".into()));
    let (status, printed) = get("/values", "values");
    assert_eq!((status, &*printed), (0, "200 OK, 6 bytes\nvalue: 1\nvalue: [2]"));
    let (status, printed) = get("/nothing", "");
    assert!(status == 1 && printed.starts_with("404 Not Found: "), "{printed}");
}
