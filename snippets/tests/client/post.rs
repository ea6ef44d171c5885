//! What src/client/post.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::TcpListener;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{Instant, timeout};

use harness::{Connection, LIMIT, Program, Server, page};

#[cfg(target_os = "linux")]
use super::failures::nobody_accepts;

/// The program itself, for tests with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/post.rs"]
mod program;

/// Answers, and waits for the end of the program: its status and what it printed.
fn end(mut client: Program, conn: &mut Connection, answer: &str) -> (i32, String) {
    conn.send(answer);
    let (status, lines) = client.wait();
    (status.code().unwrap(), lines.join("\n"))
}

const CREATED: &str = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";

#[test]
fn json_is_sent_with_its_type_and_length_to_the_path_of_the_url() {
    let server = Server::start();
    let url = server.url("/orders?of=tea");
    let client = Program::client("post", &[&url, "json", "green \"tea\"", "2"]);
    let mut conn = server.accept();
    let body = r#"{"item":"green \"tea\"","count":2}"#;
    let head = format!(
        "POST /orders?of=tea HTTP/1.1\r\ncontent-type: application/json\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    assert_eq!(conn.head().unwrap(), head);
    assert_eq!(conn.bytes(body.len()).unwrap(), body.as_bytes());
    let (status, printed) = end(client, &mut conn, CREATED);
    assert_eq!((status, &*printed), (0, "201 Created\n{}"));
    assert_eq!(conn.rest().unwrap(), "", "nothing follows the body");
}

#[test]
fn a_form_is_sent_with_its_type_and_length() {
    let server = Server::start();
    let url = server.url("/orders");
    let client = Program::client("post", &[&url, "form", "tea & milk=ü", "2"]);
    let mut conn = server.accept();
    let body = "item=tea+%26+milk%3D%C3%BC&count=2";
    let head = format!(
        "POST /orders HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    assert_eq!(conn.head().unwrap(), head);
    assert_eq!(conn.bytes(body.len()).unwrap(), body.as_bytes());
    assert_eq!(end(client, &mut conn, CREATED).0, 0);
    assert_eq!(conn.rest().unwrap(), "", "nothing follows the body");
}

#[test]
fn an_empty_full_is_no_body() {
    let server = Server::start();
    let client = Program::client("post", &[&server.url("/")]);
    let mut conn = server.accept();
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    assert_eq!(conn.head().unwrap(), head);
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(end(client, &mut conn, ok), (0, "200 OK\n".to_owned()));
    assert_eq!(conn.rest().unwrap(), "");
}

#[test]
fn a_refusal_is_an_error_with_the_reason_of_the_server() {
    let server = Server::start();
    let client = Program::client("post", &[&server.url("/"), "json", "tea", "2"]);
    let mut conn = server.accept();
    conn.head().unwrap();
    let answer =
        "HTTP/1.1 415 Unsupported Media Type\r\ncontent-length: 4\r\n\r\nno!\n";
    let (status, printed) = end(client, &mut conn, answer);
    assert_eq!((status, &*printed), (1, "415 Unsupported Media Type: no!"));
}

#[test]
fn an_error_is_printed_with_its_causes() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    let (status, lines) = Program::client("post", &[&url, "json", "tea", "2"]).wait();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        lines,
        [
            "client error (Connect): tcp connect error: Connection refused (os error 111)"
        ]
    );
}

#[test]
fn a_response_that_is_too_large_is_refused() {
    let server = Server::start();
    let client = Program::client("post", &[&server.url("/")]);
    let mut conn = server.accept();
    conn.head().unwrap();
    let size = 1024 * page("client/post").number("more than {} KiB of a response");
    let body = "x".repeat(size as usize + 1);
    let answer = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
    let (status, printed) = end(client, &mut conn, &answer);
    assert_eq!((status, &*printed), (1, "length limit exceeded"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_in_time() {
    let server = Server::start();
    let seconds = page("client/post").number("after {} seconds the program gives up");
    let start = Instant::now();
    let arguments = [server.url("/"), "json".into(), "tea".into(), "2".into()];
    let error = program::run(&arguments).await.unwrap_err();
    assert_eq!(error.to_string(), "the whole response took too long");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn the_limit_covers_the_connect() {
    let seconds = page("client/post").number("after {} seconds the program gives up");
    let (url, _full) = nobody_accepts();
    let start = Instant::now();
    let error = program::run(&[url]).await.unwrap_err();
    assert_eq!(error.to_string(), "the whole response took too long");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

#[test]
fn a_port_that_is_too_large_is_refused() {
    let (status, lines) =
        Program::client("post", &["http://127.0.0.1:99999/"]).wait();
    assert_eq!(lines, ["the port is not a number up to 65535"]);
    assert_eq!(status.code(), Some(1));
}

/// What hyper writes for a request, and how the sending ends.
async fn sent<B>(request: Request<B>) -> (String, Result<(), String>)
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let (near, mut far) = duplex(1024 * 1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let server = tokio::spawn(async move {
        let mut bytes = Vec::new();
        // After an error there may be no byte.
        bytes.extend(far.read_u8().await.ok());
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        far.write_all(answer.as_bytes()).await.ok();
        far.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    });
    let result = sender.send_request(request).await;
    let result = result.map(drop).map_err(|error| report(&error));
    (server.await.unwrap(), result)
}

fn report(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

fn request(method: Method) -> hyper::http::request::Builder {
    Request::builder().method(method).uri("/").header(HOST, "x")
}

/// A body whose length nobody knows.
fn stream(
    pieces: &[&'static str],
) -> impl Body<Data = Bytes, Error = io::Error> + use<> {
    let frames: Vec<io::Result<_>> =
        pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(*piece)))).collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

const CHUNKS: &str = "2\r\nte\r\n1\r\na\r\n0\r\n\r\n";

#[tokio::test]
async fn an_exact_size_hint_becomes_a_length_and_another_becomes_chunks() {
    let (bytes, result) =
        sent(request(Method::POST).body(Full::from("tea")).unwrap()).await;
    assert_eq!(bytes, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ntea");
    assert_eq!(result, Ok(()));

    let boxed: BoxBody<Bytes, _> = Full::<Bytes>::from("tea").boxed();
    let (bytes, _) = sent(request(Method::POST).body(boxed).unwrap()).await;
    assert_eq!(bytes, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ntea");

    let body = stream(&["te", "a"]);
    assert_eq!(body.size_hint().exact(), None);
    let (bytes, _) = sent(request(Method::POST).body(body).unwrap()).await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(bytes, format!("{head}{CHUNKS}"));
}

#[tokio::test]
async fn a_header_of_yours_comes_before_the_size_hint() {
    let body = stream(&["te", "a"]);
    let with_length = request(Method::POST).header(CONTENT_LENGTH, 3).body(body);
    let (bytes, result) = sent(with_length.unwrap()).await;
    assert_eq!(bytes, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ntea");
    assert_eq!(result, Ok(()));

    let chunked = request(Method::POST).header(TRANSFER_ENCODING, "chunked");
    let (bytes, _) = sent(chunked.body(Full::from("tea")).unwrap()).await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(bytes, format!("{head}3\r\ntea\r\n0\r\n\r\n"));
}

/// A body of known length, and one of unknown length.
fn known_and_unknown() -> [BoxBody<Bytes, io::Error>; 2] {
    let known = Full::from("tea").map_err(|never| match never {});
    [known.boxed(), stream(&["te", "a"]).boxed()]
}

/// What comes of a body of three bytes whose header promises ten, with a server that reads and
/// does not answer: the error, if there is one, and what the server has at the end of the connection.
async fn too_short(body: BoxBody<Bytes, io::Error>) -> (Option<String>, String) {
    let (near, mut far) = duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let request = request(Method::POST).header(CONTENT_LENGTH, 10).body(body);
    let result = timeout(LIMIT, sender.send_request(request.unwrap())).await;
    let error = result.ok().map(|result| report(&result.unwrap_err()));
    let mut bytes = Vec::new();
    timeout(LIMIT, far.read_to_end(&mut bytes)).await.expect("an end").unwrap();
    (error, String::from_utf8(bytes).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_shorter_than_its_header_is_an_error() {
    let [_, unknown] = known_and_unknown();
    let error = "user body write aborted: early end, expected 7 more bytes";
    assert_eq!(too_short(unknown).await.0.as_deref(), Some(error));
}

#[tokio::test(start_paused = true)]
async fn a_full_that_is_shorter_than_its_header_breaks_off_without_an_error() {
    let [known, _] = known_and_unknown();
    let (error, bytes) = too_short(known).await;
    assert_eq!(error, None, "it waits for the response");
    assert!(bytes.ends_with("content-length: 10\r\n\r\ntea"), "{bytes}");
}

#[tokio::test]
async fn a_body_that_is_longer_than_its_header_is_cut_without_an_error() {
    for body in known_and_unknown() {
        let request = request(Method::POST).header(CONTENT_LENGTH, 2).body(body);
        let (bytes, result) = sent(request.unwrap()).await;
        assert!(bytes.ends_with("content-length: 2\r\n\r\nte"), "{bytes}");
        assert_eq!(result, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_empty_and_has_a_length_breaks_off_without_an_error() {
    let empty = Full::default().map_err(|never| match never {}).boxed();
    let (error, bytes) = too_short(empty).await;
    assert_eq!(error, None, "it waits for the response");
    assert!(bytes.ends_with("content-length: 10\r\n\r\n"), "{bytes}");
}

/// What becomes of a body of three bytes with this header over HTTP/2: what the server reads, and
/// what the client gets.
async fn over_http2(
    body: BoxBody<Bytes, io::Error>,
    length: u64,
) -> (Result<Bytes, String>, Result<(), String>) {
    let (near, far) = duplex(1024);
    let (seen, mut read) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let body = request.into_body().collect().await;
            let body = body.map(|body| body.to_bytes());
            seen.send(body.map_err(|error| report(&error))).unwrap();
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(server.serve_connection(TokioIo::new(far), service));
    let (mut sender, conn) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let request =
        Request::post("http://x/").header(CONTENT_LENGTH, length).body(body);
    let result = timeout(LIMIT, sender.send_request(request.unwrap())).await;
    let result = result.expect("an end").map(drop).map_err(|error| report(&error));
    (timeout(LIMIT, read.recv()).await.unwrap().unwrap(), result)
}

#[tokio::test]
async fn over_http2_the_server_resets_a_body_with_another_length() {
    page("client/post").says("Over HTTP/2 hyper sends the body as it is");
    for body in known_and_unknown() {
        let (read, result) = over_http2(body, 3).await;
        assert_eq!((read.as_deref(), result), (Ok(&b"tea"[..]), Ok(())));
    }
    for length in [2, 10] {
        for body in known_and_unknown() {
            let (read, result) = over_http2(body, length).await;
            assert_eq!(
                result.unwrap_err(),
                "http2 error: stream error received: unspecific protocol error detected"
            );
            assert_eq!(
                read.unwrap_err(),
                "error reading a body from connection: stream error detected: unspecific protocol error detected"
            );
        }
    }
}

#[tokio::test]
async fn an_empty_post_has_a_length_only_if_you_set_it() {
    for method in [Method::POST, Method::PUT] {
        let empty = request(method.clone()).body(Full::<Bytes>::default());
        let (bytes, _) = sent(empty.unwrap()).await;
        assert_eq!(bytes, format!("{method} / HTTP/1.1\r\nhost: x\r\n\r\n"));
        let zero = request(method.clone()).header(CONTENT_LENGTH, 0);
        let (bytes, _) = sent(zero.body(Empty::<Bytes>::new()).unwrap()).await;
        let head =
            format!("{method} / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(bytes, head);
    }
}

#[tokio::test]
async fn a_get_sends_no_body_of_unknown_length() {
    let get = request(Method::GET).body(stream(&["te", "a"])).unwrap();
    let (bytes, result) = sent(get).await;
    assert_eq!(bytes, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(result, Ok(()), "without an error");
    let chunked = request(Method::GET).header(TRANSFER_ENCODING, "chunked");
    let (bytes, _) = sent(chunked.body(stream(&["te", "a"])).unwrap()).await;
    assert!(bytes.ends_with(CHUNKS), "{bytes}");
    let (bytes, _) =
        sent(request(Method::GET).body(Full::from("tea")).unwrap()).await;
    assert_eq!(bytes, "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ntea");
}

/// A server that answers in this version, and keeps the connection: the bytes of two requests.
async fn two_requests(
    version: &str,
    body: fn() -> BoxBody<Bytes, io::Error>,
) -> [String; 2] {
    let (near, mut far) = duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let answer =
        format!("{version} 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n");
    let mut sent = [const { String::new() }; 2];
    for sent in &mut sent {
        sender.ready().await.unwrap();
        let response =
            sender.send_request(request(Method::POST).body(body()).unwrap());
        let server = async {
            let mut bytes = [0; 1024];
            // All that comes before the client waits for an answer.
            let mut piece = timeout(LIMIT, far.read(&mut bytes)).await;
            while let Ok(Ok(length)) = piece {
                sent.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
                piece = timeout(LIMIT, far.read(&mut bytes)).await;
            }
            far.write_all(answer.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(response, server);
        assert!(response.unwrap().status().is_success(), "without an error");
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn after_a_response_of_http10_a_body_of_unknown_length_is_not_sent() {
    page("client/post").says("a body of unknown length is not sent, again without an error");
    let unknown = || stream(&["te", "a"]).boxed();
    let known = || Full::from("tea").map_err(|never| match never {}).boxed();

    let [first, second] = two_requests("HTTP/1.0", unknown).await;
    assert!(first.starts_with("POST / HTTP/1.1\r\n") && first.ends_with(CHUNKS), "{first}");
    assert_eq!(second, "POST / HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n");

    let [_, second] = two_requests("HTTP/1.0", known).await;
    assert!(second.starts_with("POST / HTTP/1.0\r\n"), "{second}");
    assert!(second.ends_with("content-length: 3\r\n\r\ntea"), "{second}");

    let [_, second] = two_requests("HTTP/1.1", unknown).await;
    assert!(second.starts_with("POST / HTTP/1.1\r\n") && second.ends_with(CHUNKS), "{second}");
}

#[tokio::test]
async fn a_clone_of_a_request_shares_its_bytes_and_sends_the_same() {
    let request = program::json("http://x/", &"tea").unwrap();
    let again = request.clone();
    let data = async |request: &Request<Full<Bytes>>| {
        request.body().clone().collect().await.unwrap().to_bytes()
    };
    let (one, two) = (data(&request).await, data(&again).await);
    assert_eq!(one.as_ptr(), two.as_ptr(), "no byte is copied");
    assert_eq!(sent(request).await.0, sent(again).await.0);
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = Program::nginx(
        folder.path(),
        "server {
             listen 127.0.0.1:PORT;
             location / {
                 return 200 '$request_method $uri, $content_length bytes of $content_type\\n';
             }
         }",
    );
    let url = format!("http://{}/orders", nginx.address);
    for (kind, printed) in [
        ("json", "POST /orders, 24 bytes of application/json"),
        ("form", "POST /orders, 16 bytes of application/x-www-form-urlencoded"),
    ] {
        let (status, lines) =
            Program::client("post", &[&url, kind, "tea", "2"]).wait();
        assert_eq!(status.code(), Some(0));
        assert_eq!(lines, ["200 OK", printed]);
    }
}
