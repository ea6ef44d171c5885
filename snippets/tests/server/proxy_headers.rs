//! What src/server/proxy-headers.md promises.

use std::fs;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};

use harness::{Connection, Program, root};

use super::proxy::{Backend, header, ok, start, start_behind};

#[allow(dead_code)]
#[path = "../../../tools/bench/src/smuggling.rs"]
mod smuggling;

/// What the page's table says of each vector: this program's column.
fn table() -> Vec<(String, String)> {
    let path = root().join("tools/bench/results/smuggling.md");
    let table = fs::read_to_string(path).unwrap();
    table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| HTTP"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ");
            let mut cell = || cells.next().unwrap().trim().to_owned();
            (cell(), cell())
        })
        .collect()
}

#[test]
fn no_request_is_forwarded_with_two_meanings() {
    let backend = smuggling::Backend::start();
    let proxy = start(&[backend.address]);
    let statuses = smuggling::send(proxy.address, proxy.address);
    drop(proxy);
    let outcomes = backend.outcomes(statuses);
    let names = smuggling::names().map(str::to_owned);
    let seen: Vec<_> = names.zip(outcomes).collect();
    for (what, seen) in &seen {
        let harmless = !seen.contains("ambiguous") && !seen.contains("smuggled");
        assert!(harmless, "{what}: {seen}");
    }
    let shown = table();
    let again = "run the benchmark of the proxy again";
    for (seen, shown) in seen.iter().zip(&shown) {
        assert_eq!(seen, shown, "seen, and what the page's table says: {again}");
    }
    assert_eq!(seen.len(), shown.len(), "the table has another length: {again}");
}

/// Sends a request through the proxy: the head that the backend gets, and the connections.
fn pass(
    proxy: &Program,
    backend: &Backend,
    request: &str,
) -> (String, Connection, Connection) {
    let mut client = proxy.connect();
    client.send(request);
    let mut there = backend.accepted();
    let head = there.head().unwrap();
    (head, there, client)
}

/// The same, with an answer.
fn ask(proxy: &Program, backend: &Backend, request: &str) -> String {
    let (head, mut there, mut client) = pass(proxy, backend, request);
    there.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    client.response().unwrap();
    head
}

const HOP_BY_HOP: &str = "connection: x-mine, keep-alive\r\nConnection: X-Other\r\n\
    x-mine: 1\r\nx-other: 2\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\n\
    proxy-authorization: Basic AAAA\r\nproxy-authenticate: Basic\r\nupgrade: foo\r\nte: gzip\r\nx-kept: yes\r\n";

fn assert_dropped(head: &str) {
    for name in [
        "connection",
        "x-mine",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "upgrade",
        "te",
    ] {
        assert_eq!(header(head, name), [""; 0], "{name} passes:\n{head}");
    }
    assert_eq!(header(head, "x-kept"), ["yes"]);
}

#[test]
fn headers_for_the_next_hop_are_dropped_in_both_directions() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{HOP_BY_HOP}\r\n");
    let (head, mut there, mut client) = pass(&proxy, &backend, &request);
    assert_dropped(&head);
    there.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{HOP_BY_HOP}\r\n"));
    assert_dropped(&client.head().unwrap());
}

const FORGED: &str = "x-forwarded-for: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nx-forwarded-host: evil\r\n\
    x-forwarded-port: 443\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\n\
    proxy: evil\r\n";

#[test]
fn what_a_client_says_of_itself_is_not_forwarded() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    for lie in ["", "connection: x-forwarded-for, forwarded\r\n"] {
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{FORGED}{lie}\r\n");
        let head = ask(&proxy, &backend, &request);
        assert_eq!(header(&head, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(header(&head, "x-forwarded-host"), ["x"]);
        assert_eq!(header(&head, "x-forwarded-proto"), ["http"]);
        assert_eq!(
            header(&head, "forwarded"),
            ["for=127.0.0.1;host=\"x\";proto=http"]
        );
        for name in ["x-forwarded-port", "x-real-ip", "x_forwarded_for", "proxy"] {
            assert_eq!(header(&head, name), [""; 0], "{name} passes:\n{head}");
        }
    }
}

#[test]
fn what_a_trusted_proxy_says_is_added_to() {
    let backend = Backend::listen();
    let proxy = start_behind("10.0.0.1 127.0.0.1", &[backend.address]);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{FORGED}\r\n");
    let head = ask(&proxy, &backend, &request);
    assert_eq!(header(&head, "x-forwarded-for"), ["6.6.6.6, 127.0.0.1"]);
    assert_eq!(header(&head, "x-forwarded-host"), ["evil"]);
    assert_eq!(header(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(header(&head, "x-forwarded-port"), ["443"]);
    let forwarded = "for=6.6.6.6, for=127.0.0.1;host=\"x\";proto=http";
    assert_eq!(header(&head, "forwarded"), [forwarded]);
    for name in ["x-real-ip", "x_forwarded_for", "proxy"] {
        assert_eq!(header(&head, name), [""; 0], "{name} passes:\n{head}");
    }
}

#[test]
fn the_backend_gets_the_path_and_the_host_that_the_client_asked_for() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    for (line, host, target, expected) in [
        ("GET /a?b=c HTTP/1.1", "a.test:81", "GET /a?b=c HTTP/1.1", "a.test:81"),
        ("GET http://a.test/b HTTP/1.1", "x", "GET /b HTTP/1.1", "a.test"),
        ("GET http://a.test HTTP/1.1", "x", "GET / HTTP/1.1", "a.test"),
        ("OPTIONS * HTTP/1.1", "x", "OPTIONS * HTTP/1.1", "x"),
        ("GET //b/../c;d HTTP/1.1", "x", "GET //b/../c;d HTTP/1.1", "x"),
        ("GET / HTTP/1.0", "x", "GET / HTTP/1.1", "x"),
    ] {
        let request = format!("{line}\r\nhost: {host}\r\n\r\n");
        let head = ask(&proxy, &backend, &request);
        assert_eq!(head.lines().next().unwrap(), target);
        assert_eq!(header(&head, "host"), [expected]);
    }
}

#[test]
fn a_request_that_comes_back_is_a_loop() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let request = "GET / HTTP/1.1\r\nhost: x\r\nvia: 1.1 other\r\n\r\n";
    let head = ask(&proxy, &backend, request);
    let via = header(&head, "via");
    assert_eq!(via, ["1.1 other, 1.1 guide-proxy"]);
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nhost: x\r\nvia: {}\r\n\r\n", via[0]));
    assert_eq!(client.response().unwrap().status(), "HTTP/1.1 508 Loop Detected");
}

#[test]
fn connect_and_trace_are_refused() {
    let proxy = start(&[Backend::listen().address]);
    for request in ["CONNECT x:443", "TRACE /"] {
        let mut client = proxy.connect();
        client.send(format!("{request} HTTP/1.1\r\nhost: x:443\r\n\r\n"));
        let answer = client.response().unwrap();
        assert_eq!(answer.status(), "HTTP/1.1 405 Method Not Allowed");
    }
}

#[test]
fn the_client_may_send_its_body_once_the_backend_can_take_it() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let upload = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let (head, mut there, mut client) = pass(&proxy, &backend, upload);
    assert_eq!(header(&head, "expect"), [""; 0]);
    assert_eq!(client.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(there.bytes(5).unwrap(), b"hello");
    there.send("HTTP/1.1 100 Continue\r\n\r\n");
    ok(&mut there, "took it");
    assert_eq!(client.response().unwrap().text(), "took it");

    // Nobody is asked to send what nobody takes.
    let proxy = start(&["127.0.0.1:1".parse().unwrap()]);
    let mut client = proxy.connect();
    client.send(upload);
    assert_eq!(client.response().unwrap().status(), "HTTP/1.1 502 Bad Gateway");
}

#[test]
fn trailers_pass_in_both_directions() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let (head, mut there, mut client) = pass(
        &proxy,
        &backend,
        "POST / HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
    );
    assert_eq!(header(&head, "trailer"), ["x-sum"]);
    assert_eq!(header(&head, "te"), ["trailers"]);
    assert_eq!(header(&head, "connection"), ["te"]);
    let body = "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
    assert_eq!(there.bytes(body.len()).unwrap(), body.as_bytes());
    there.send(format!("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
    assert_eq!(header(&client.head().unwrap(), "trailer"), ["x-sum"]);
    assert_eq!(client.bytes(body.len()).unwrap(), body.as_bytes());
}

#[test]
fn a_response_without_a_body_keeps_its_length() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let mut client = proxy.connect();
    let mut there = None;
    for (method, head, length) in [
        ("HEAD", "200 OK\r\ncontent-length: 1234", vec!["1234"]),
        ("HEAD", "200 OK\r\ncontent-length: 7\r\ncontent-length: 7", vec!["7"]),
        ("HEAD", "200 OK\r\ntransfer-encoding: chunked", vec![]),
        ("HEAD", "200 OK", vec![]),
        ("GET", "304 Not Modified\r\ncontent-length: 1234", vec![]),
        ("GET", "304 Not Modified", vec![]),
        ("GET", "204 No Content", vec![]),
    ] {
        client.send(format!("{method} / HTTP/1.1\r\nhost: x\r\n\r\n"));
        let there = there.get_or_insert_with(|| backend.accepted());
        there.head().unwrap();
        there.send(format!("HTTP/1.1 {head}\r\n\r\n"));
        let answer = client.head().unwrap();
        assert_eq!(header(&answer, "content-length"), length, "{method} {head}");
        assert_eq!(header(&answer, "transfer-encoding"), [""; 0], "{method} {head}");
    }
    // The next answer begins where it should.
    client.get("/");
    let mut there = there.unwrap();
    there.head().unwrap();
    ok(&mut there, "hello");
    assert_eq!(client.response().unwrap().text(), "hello");
}

#[test]
fn a_response_has_one_length_for_all() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    for (head, body, expected) in [
        ("content-length: 5\r\ncontent-length: 5", "hello", "5"),
        ("connection: content-length\r\ncontent-length: 5", "hello", "5"),
        (
            "content-length: 3\r\ntransfer-encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
            "chunked",
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 3",
            "5\r\nhello\r\n0\r\n\r\n",
            "chunked",
        ),
    ] {
        let (_, mut there, mut client) = pass(
            &proxy,
            &backend,
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        );
        there.send(format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n{head}\r\n\r\n{body}"
        ));
        drop(there);
        let answer = client.response().unwrap();
        assert_eq!(answer.text(), "hello", "{head}");
        let mut framing = header(&answer.head, "content-length");
        framing.extend(header(&answer.head, "transfer-encoding"));
        assert_eq!(framing, [expected], "{head}");
    }
}

#[tokio::test]
async fn the_cookies_of_http2_become_one() {
    let backend = Backend::listen();
    let proxy = start(&[backend.address]);
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, conn) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(conn);
    let request = Request::get("http://a.test/b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response =
        tokio::spawn(async move { sender.send_request(request).await.unwrap() });
    let (head, mut there) = tokio::task::spawn_blocking(move || {
        let mut there = backend.accepted();
        (there.head().unwrap(), there)
    })
    .await
    .unwrap();
    assert_eq!(header(&head, "cookie"), ["a=1; b=2"]);
    assert_eq!(header(&head, "host"), ["a.test"]);
    assert_eq!(header(&head, "via"), ["2.0 guide-proxy"]);
    ok(&mut there, "hello");
    let body = response.await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "hello");
}
