//! What src/client/basic.md promises.

use std::process::Command;
use std::time::Duration;

use harness::{LIMIT, Program, Prose, Server, page};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

#[allow(dead_code)]
#[path = "../../client/basic.rs"]
mod program;

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn here() -> Prose {
    page("client/basic")
}

#[test]
fn the_server_sees_the_path_and_the_host() {
    let server = Server::start();
    let mut program = Program::client("basic", &[&server.url("/hello?a=b")]);
    let mut connection = server.accept();
    let host = server.address;
    let expected = format!("GET /hello?a=b HTTP/1.1\r\nhost: {host}\r\n\r\n");
    assert_eq!(connection.head().unwrap(), expected);
    connection.send(WHOLE);
    let (status, printed) = program.wait();
    assert_eq!(printed, ["200 OK", "hi"]);
    assert!(status.success());
    assert_eq!(connection.rest().unwrap(), "", "and then the connection closes");
}

#[test]
fn the_second_request_uses_the_same_connection() {
    let server = Server::start();
    let mut program = Program::client("basic", &[&server.url("/a"), "/b"]);
    let mut connection = server.accept();
    for path in ["/a", "/b"] {
        let head = connection.head().unwrap();
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
        connection.send(WHOLE);
    }
    assert_eq!(program.wait().1, ["200 OK", "hi", "200 OK", "hi"]);
    assert!(server.try_accept().is_none());
}

#[test]
fn a_url_becomes_an_address_a_host_and_a_target() {
    for (url, address, host, target) in [
        ("http://a.test", ("a.test", 80), "a.test", "/"),
        ("http://a.test/", ("a.test", 80), "a.test", "/"),
        ("http://a.test?q=1", ("a.test", 80), "a.test", "/?q=1"),
        ("http://a.test:80/x", ("a.test", 80), "a.test", "/x"),
        ("http://a.test:3000/x?q", ("a.test", 3000), "a.test:3000", "/x?q"),
        ("http://[::1]:3000/", ("::1", 3000), "[::1]:3000", "/"),
        ("http://user:secret@a.test/", ("a.test", 80), "a.test", "/"),
    ] {
        let url: Uri = url.parse().unwrap();
        assert_eq!(program::address(&url).unwrap(), address, "{url}");
        assert_eq!(program::host(&url), host, "{url}");
        assert_eq!(program::target(&url).to_string(), target, "{url}");
    }
    for url in ["https://a.test/", "/hello", "a.test"] {
        let error = program::address(&url.parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error, format!("{url}: the URL must begin with http://"));
    }
}

/// What the program prints when the server does this after it has read a request.
fn fails(arguments: &[&str], answers: &[&str]) -> Vec<String> {
    let server = Server::start();
    let url = server.url("/");
    let arguments = [&[url.as_str()], arguments].concat();
    let mut program = Program::client("basic", &arguments);
    let mut connection = server.accept();
    for answer in answers {
        connection.head().unwrap();
        connection.send(answer);
    }
    drop(connection);
    let (status, printed) = program.wait();
    assert_eq!(status.code(), Some(1));
    printed
}

#[test]
fn errors_are_those_of_the_page() {
    let closing =
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    for (error, arguments, answers) in [
        ("connection closed before message completed", vec![], vec!["HTTP/1.1 "]),
        ("invalid HTTP version parsed", vec![], vec!["SSH-2.0-server\r\n"]),
        ("channel closed", vec!["/b"], vec![closing]),
        (
            "error reading a body from connection: end of file before message length reached",
            vec![],
            vec!["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"],
        ),
    ] {
        here().says(error);
        let printed = fails(&arguments, &answers);
        assert_eq!(printed.last().unwrap(), error);
    }
}

#[test]
fn nobody_listens() {
    // A port that was free a moment ago.
    let url = Server::start().url("/");
    let (status, printed) = Program::client("basic", &[&url]).wait();
    assert_eq!(printed, ["Connection refused (os error 111)"]);
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_body_beyond_the_limit_is_an_error() {
    let size = program::BODY_LIMIT + 1;
    assert_eq!(
        here().number("A body may have {} MiB") * 1024 * 1024,
        size as u64 - 1
    );
    let body = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
    let server = Server::start();
    let mut program = Program::client("basic", &[&server.url("/")]);
    let mut connection = server.accept();
    connection.head().unwrap();
    connection.send(body);
    connection.send(vec![b'x'; size]);
    let (status, printed) = program.wait();
    assert_eq!(printed, ["length limit exceeded"]);
    assert_eq!(status.code(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_does_not_hold_the_program() {
    let seconds = here().number("The whole exchange may take {} seconds");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let start = Instant::now();
    let error = program::limited(&url, &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "deadline has elapsed");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("/").header("host", "a.test").body(Empty::new()).unwrap()
}

/// Without the help of the program.
#[tokio::test]
async fn hyper_sends_the_request_as_it_is() {
    let (client, mut server) = tokio::io::duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(conn);
    let whole = Request::get("http://a.test/x").body(Empty::<Bytes>::new()).unwrap();
    let request = tokio::spawn(sender.send_request(whole));
    let expected = b"GET http://a.test/x HTTP/1.1\r\n\r\n";
    let mut sent = vec![0; expected.len()];
    timeout(LIMIT, server.read_exact(&mut sent)).await.unwrap().unwrap();
    assert_eq!(sent, expected);
    request.abort();
}

/// Nobody polls the connection: the request is never sent.
#[tokio::test(start_paused = true)]
async fn without_its_connection_a_request_hangs() {
    let (client, mut server) = tokio::io::duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(client)).await.unwrap();
    let sent =
        timeout(Duration::from_secs(3600), sender.send_request(request())).await;
    assert!(sent.is_err(), "no response");
    let read = timeout(Duration::from_secs(1), server.read_u8()).await;
    assert!(read.is_err(), "and no byte of the request");
    drop(conn);
}

#[tokio::test(start_paused = true)]
async fn the_connection_does_not_end_while_a_sender_waits() {
    let (client, server) = tokio::io::duplex(1024);
    let (sender, conn) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.unwrap();
    let mut conn = Box::pin(conn);
    assert!(timeout(Duration::from_secs(3600), &mut conn).await.is_err());
    // It ends when the sender is gone.
    drop(sender);
    timeout(LIMIT, conn).await.unwrap().unwrap();
    drop(server);
}

/// Polled beside the request, without a task.
#[tokio::test]
async fn a_connection_that_is_polled_beside_the_request_needs_no_task() {
    let (client, mut server) = tokio::io::duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(client)).await.unwrap();
    let exchange = async move {
        let body = sender.send_request(request()).await.unwrap().into_body();
        body.collect().await.unwrap().to_bytes()
    };
    let answer = async {
        server.read_u8().await.unwrap();
        server.write_all(WHOLE.as_bytes()).await.unwrap();
        server.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (body, conn, ()) = tokio::join!(exchange, conn, answer);
    assert_eq!(body, "hi");
    conn.unwrap();
}

/// The body still belongs to the connection, so the next request waits for its end.
#[tokio::test(start_paused = true)]
async fn the_sender_is_not_ready_before_the_body_is_read() {
    let (client, mut server) = tokio::io::duplex(64 * 1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(conn);
    tokio::spawn(async move {
        server.read_u8().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n";
        server.write_all(head.as_bytes()).await.unwrap();
        server.write_all(&vec![0; 2_000_000]).await.unwrap();
        server.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let body = sender.send_request(request()).await.unwrap().into_body();
    let early = timeout(Duration::from_secs(3600), sender.ready()).await;
    assert!(early.is_err(), "ready before the body is read");
    let refused = sender.send_request(request()).await.unwrap_err();
    assert!(refused.is_canceled(), "{refused:?}");
    assert_eq!(
        program::report(&refused),
        "operation was canceled: connection was not ready"
    );
    body.collect().await.unwrap();
    timeout(LIMIT, sender.ready()).await.unwrap().unwrap();
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_answers_twice_on_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let nginx = Program::of_others(|port| {
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr;
             events {{}}
             http {{ access_log off; client_body_temp_path {path}/a; proxy_temp_path {path}/b;
                     fastcgi_temp_path {path}/c; uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;
                     server {{ listen 127.0.0.1:{port};
                               location / {{ return 200 \"$connection_requests $request_uri $host\"; }} }} }}",
        );
        std::fs::write(format!("{path}/conf"), config).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-p", path, "-c", &format!("{path}/conf")]);
        command
    });
    let url = format!("http://{}/a", nginx.address);
    let (status, printed) = Program::client("basic", &[&url, "/b?c"]).wait();
    assert_eq!(printed, ["200 OK", "1 /a 127.0.0.1", "200 OK", "2 /b?c 127.0.0.1"]);
    assert!(status.success());
}

/// Python's server answers with HTTP/1.0 and closes: there is no second request.
#[test]
#[ignore = "needs python3"]
fn others_python_closes_after_each_response() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "hi").unwrap();
    let python = Program::of_others(|port| {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "-b", "127.0.0.1", &port.to_string()]);
        command.current_dir(&folder);
        command
    });
    let url = format!("http://{}/file", python.address);
    let (_, printed) = Program::client("basic", &[&url, "/file"]).wait();
    assert_eq!(printed, ["200 OK", "hi", "channel closed"]);
}
