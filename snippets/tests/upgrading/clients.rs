//! What src/upgrading/clients.md promises: what the clients of a pair send, how many connections they
//! make, and the errors of the pooled client.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use harness::LIMIT;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::pairs::{pair, same};

/// What a client asks of a server that answers this to each request: all its bytes, and how many
/// connections it makes.
fn asks(client: &str, answer: &str) -> (String, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = Command::new(harness::cargo::program(client));
    let mut client = command
        .arg(format!("http://{address}/path?query"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let (mut bytes, mut connections) = (String::new(), Vec::new());
    let deadline = Instant::now() + LIMIT;
    while client.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            client.kill().unwrap();
            panic!("the client does not end; it has asked {bytes}");
        }
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            connections.push((stream, String::new()));
        }
        for (stream, received) in &mut connections {
            let mut buffer = [0; 1024];
            if let Ok(n) = stream.read(&mut buffer) {
                received.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            }
            if received.ends_with("\r\n\r\n") {
                bytes.push_str(&std::mem::take(received));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(client.wait().unwrap().success());
    (bytes.replace(&address.to_string(), "example.com"), connections.len())
}

#[test]
fn the_clients_ask_alike() {
    let keeping = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let closing =
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    // Where the server keeps the connection, the second request takes that or a new one, whichever
    // is ready first.
    for (answer, least) in [(keeping, 1), (closing, 2)] {
        let [before, after] = pair("client").map(|client| asks(&client, answer));
        for connections in [before.1, after.1] {
            assert!((least..=2).contains(&connections), "{connections} connections");
        }
        same("client", [before.0, after.0]);
    }
}

fn client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// The error of a GET, with its sources.
async fn error(
    client: Client<HttpConnector, Empty<Bytes>>,
    url: &str,
) -> (String, bool) {
    let answer = timeout(LIMIT, client.get(url.parse().unwrap())).await.unwrap();
    let error = answer.unwrap_err();
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    (text, error.is_connect())
}

/// A server that reads a request, answers these bytes to it and closes the connection. The
/// receiver hands out what was read.
fn answering(answer: &'static [u8]) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).unwrap();
        request.truncate(length);
        sender.send(request).unwrap();
        stream.write_all(answer).unwrap();
    });
    (address, requests)
}

#[tokio::test]
async fn the_errors_of_the_pooled_client() {
    let shown = |text: &str, connect: bool| (text.to_owned(), connect);
    assert_eq!(
        error(client(), "https://127.0.0.1:1/").await,
        shown("client error (Connect): invalid URL, scheme is not http", true)
    );
    assert_eq!(
        error(client(), "/path").await,
        shown("client error (UserAbsoluteUriRequired)", false)
    );
    // Nothing listens on port 1.
    let (refused, connect) = error(client(), "http://127.0.0.1:1/").await;
    let text = "client error (Connect): tcp connect error: Connection refused";
    assert!(refused.starts_with(text) && connect, "{refused}");
    for (answer, text) in [
        (&b""[..], "connection closed before message completed"),
        // A TLS alert, as a server for https answers to a request in plain text.
        (b"\x15\x03\x03\0\x02\x02\x32", "invalid HTTP version parsed"),
    ] {
        let (address, _requests) = answering(answer);
        assert_eq!(
            error(client(), &format!("http://{address}/")).await,
            shown(&format!("client error (SendRequest): {text}"), false)
        );
    }
}

#[tokio::test]
async fn without_tls_around_it_a_connector_sends_https_in_plain_text() {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let (address, requests) = answering(b"");
    error(client, &format!("https://{address}/")).await;
    assert!(requests.recv_timeout(LIMIT).unwrap().starts_with(b"GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn as_many_requests_at_once_open_as_many_connections() {
    const REQUESTS: usize = 50;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = client();
    let requests: Vec<_> = (0..REQUESTS)
        .map(|_| tokio::spawn(client.get(url.parse().unwrap())))
        .collect();
    let mut connections: Vec<tokio::net::TcpStream> = Vec::new();
    while connections.len() < REQUESTS {
        let accepted = timeout(LIMIT, listener.accept()).await;
        connections.push(accepted.expect("a connection for each request").unwrap().0);
    }
    requests.iter().for_each(tokio::task::JoinHandle::abort);
}
