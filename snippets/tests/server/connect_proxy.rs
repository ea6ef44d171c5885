//! What src/server/connect-proxy.md promises.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::Semaphore;
use tokio::time::{self, Instant, sleep};

use harness::{Connection, LIMIT, Program, Prose, cargo, page, wait};

use super::proxy::{Backend, within};

/// The program itself, for tests with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/connect_proxy.rs"]
mod program;

fn tunnels() -> Prose {
    page("server/connect-proxy")
}

/// The proxy, with this list.
pub fn start(allowed: &[String]) -> Program {
    // The address comes first.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$2\" $1"]);
    command.arg(cargo::program("connect-proxy")).arg(allowed.join(" "));
    Program::listen(command)
}

fn ask(proxy: &Program, target: &str) -> (TcpStream, Connection) {
    let stream = TcpStream::connect(proxy.address).unwrap();
    let mut client = Connection::new(stream.try_clone().unwrap());
    client.send(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n"));
    (stream, client)
}

#[test]
fn only_what_is_on_the_list_is_connected_to() {
    let server = Backend::listen();
    let allowed = server.address.to_string();
    let proxy = start(&[
        allowed.clone(),
        "[::1]:1".to_owned(),
        "[::FFFF:127.0.0.1]:1".to_owned(),
    ]);
    let (ip, port) = (server.address.ip(), server.address.port());
    for (target, status) in [
        (format!("{ip}:1"), 403),
        (format!("localhost:{port}"), 403),
        (format!("[::ffff:127.0.0.1]:{port}"), 403),
        (format!("user@{ip}:{port}"), 400),
        (ip.to_string(), 400),
        (format!("{ip}:{port}0"), 400),
        ("[::1]:1".to_owned(), 502),
        ("a.test:1".to_owned(), 403),
        // Capitals make no difference, on the list or in the request.
        ("[::ffff:127.0.0.1]:1".to_owned(), 502),
        ("[::FFFF:127.0.0.1]:1".to_owned(), 502),
    ] {
        let (_, mut client) = ask(&proxy, &target);
        let answer = client.response().unwrap();
        assert!(
            answer.status().contains(&status.to_string()),
            "{target}: {answer:?}"
        );
    }
    let (_stream, mut client) = ask(&proxy, &allowed);
    assert_eq!(client.head().unwrap().lines().next(), Some("HTTP/1.1 200 OK"));
    server.accepted();
}

#[test]
fn a_name_that_resolves_to_a_private_address_is_refused() {
    let server = Backend::listen();
    let target = format!("localhost:{}", server.address.port());
    let proxy = start(std::slice::from_ref(&target));
    let (_, mut client) = ask(&proxy, &target);
    assert_eq!(client.response().unwrap().status(), "HTTP/1.1 403 Forbidden");
}

#[test]
fn addresses_of_the_own_network_are_not_public() {
    let public = |ip: &str| program::is_public(ip.parse::<IpAddr>().unwrap());
    for ip in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "ff02::1",
    ] {
        assert!(!public(ip), "{ip}");
    }
    for ip in [
        "1.1.1.1",
        "9.9.9.9",
        "100.63.0.1",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.1.0.1",
        "198.17.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860::8888",
        "::ffff:1.1.1.1",
    ] {
        assert!(public(ip), "{ip}");
    }
}

#[test]
fn other_requests_are_refused() {
    let proxy = start(&[]);
    let mut client = proxy.connect();
    client.send("GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\n\r\n");
    let answer = client.response().unwrap();
    assert_eq!(answer.status(), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(answer.header("allow"), Some("CONNECT"));
}

#[test]
fn early_bytes_arrive_and_each_direction_ends_by_itself() {
    let server = Backend::listen();
    let target = server.address.to_string();
    let proxy = start(std::slice::from_ref(&target));
    for client_first in [true, false] {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        write!(stream, "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\nearly")
            .unwrap();
        let mut client = Connection::new(stream.try_clone().unwrap());
        let there_stream = server.accept();
        let mut there = Connection::new(there_stream.try_clone().unwrap());
        there.send("bird");
        let head = client.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            !head.contains("content-length") && !head.contains("encoding"),
            "{head}"
        );
        assert_eq!(client.bytes(4).unwrap(), b"bird");
        assert_eq!(there.bytes(5).unwrap(), b"early");
        let mut ends = [(stream, client), (there_stream, there)];
        if !client_first {
            ends.reverse();
        }
        let [(first, mut reads_on), (second, mut sends_on)] = ends;
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(sends_on.rest().unwrap(), "");
        sends_on.send("still here");
        assert_eq!(reads_on.bytes(10).unwrap(), b"still here");
        second.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reads_on.rest().unwrap(), "");
    }
}

#[test]
fn a_server_that_is_gone_ends_the_tunnel() {
    let server = Backend::listen();
    let target = server.address.to_string();
    let proxy = start(std::slice::from_ref(&target));
    let (mut stream, mut client) = ask(&proxy, &target);
    client.head().unwrap();
    let there = server.accept();
    // Bytes that nobody reads make the close a reset.
    stream.write_all(b"unread").unwrap();
    wait("the bytes", || there.peek(&mut [0; 6]).is_ok_and(|count| count == 6));
    drop(there);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    match stream.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0, "bytes from a server that is gone"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_server_that_refuses_is_502() {
    let dead = Backend::listen().address.to_string();
    let proxy = start(std::slice::from_ref(&dead));
    let (_, mut client) = ask(&proxy, &dead);
    assert_eq!(client.response().unwrap().status(), "HTTP/1.1 502 Bad Gateway");
}

#[test]
fn a_connect_with_a_body_is_400() {
    let server = Backend::listen();
    let target = server.address.to_string();
    let proxy = start(std::slice::from_ref(&target));
    for (body, status) in [
        ("content-length: 5\r\n\r\nhello", "HTTP/1.1 400 Bad Request"),
        ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("content-length: 0\r\n\r\n", "HTTP/1.1 200 OK"),
    ] {
        let mut client = proxy.connect();
        client.send(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{body}"));
        let head = client.head().unwrap();
        assert_eq!(head.lines().next(), Some(status), "{body:?}");
    }
}

// With a clock that stands still while there is work to do.

async fn in_memory(target: &str) -> tokio::io::DuplexStream {
    let slots = Arc::new(Semaphore::new(1));
    let slot = Arc::new(slots.acquire_owned().await.unwrap());
    let allowed = Arc::new([target.to_owned()].into());
    let (mut client, stream) = duplex(1024);
    tokio::spawn(program::serve(allowed, stream, slot));
    let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

/// The status line; no more than the head is read.
async fn status(client: &mut tokio::io::DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(client.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap().lines().next().unwrap().to_owned()
}

/// A server whose queue is full, so the kernel drops what comes.
fn full() -> (SocketAddr, impl Sized) {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let first = TcpStream::connect(address).unwrap();
    (address, (full, first))
}

#[tokio::test(start_paused = true)]
async fn a_name_is_reached_though_its_first_address_does_not_answer() {
    let (address, _full) = full();
    let server = Backend::listen();
    let addresses = [address, server.address];
    let all = program::connect_to(&addresses);
    let stream = time::timeout(program::CONNECT, all).await;
    let stream = stream.expect("a connection in time").unwrap();
    assert_eq!(stream.peer_addr().unwrap(), server.address);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_504() {
    let seconds =
        tunnels().number("The server has {} seconds to take the connection");
    let (address, _full) = full();
    let mut client = in_memory(&address.to_string()).await;
    let start = Instant::now();
    assert_eq!(status(&mut client).await, "HTTP/1.1 504 Gateway Timeout");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_and_one_that_is_used_is_not() {
    let idle = tunnels().number("silent in both directions for {} seconds is closed");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = in_memory(&listener.local_addr().unwrap().to_string()).await;
    assert_eq!(status(&mut client).await, "HTTP/1.1 200 OK");
    let (mut server, _) = listener.accept().await.unwrap();
    let mut byte = [0];
    for _ in 0..3 {
        server.write_all(b".").await.unwrap();
        client.read_exact(&mut byte).await.unwrap();
        time::pause();
        sleep(Duration::from_secs(idle - 1)).await;
        time::resume();
    }
    time::pause();
    let start = Instant::now();
    assert_eq!(within(client.read(&mut byte)).await.unwrap(), 0);
    assert!(start.elapsed().as_secs() <= 2 * idle);
    time::resume();
    assert_eq!(server.read(&mut byte).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_must_send_its_head_in_time() {
    let seconds = tunnels().number("A client has {} seconds for its head");
    let slots = Arc::new(Semaphore::new(1));
    let slot = Arc::new(slots.acquire_owned().await.unwrap());
    let (mut client, stream) = duplex(1024);
    let conn = tokio::spawn(program::serve(Arc::default(), stream, slot));
    client.write_all(b"CONNECT a.test:443 HT").await.unwrap();
    let start = Instant::now();
    assert!(within(conn).await.unwrap().unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), seconds);
}

#[tokio::test]
async fn a_slow_reader_is_not_silent() {
    let idle = program::IDLE.as_secs();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = in_memory(&listener.local_addr().unwrap().to_string()).await;
    assert_eq!(status(&mut client).await, "HTTP/1.1 200 OK");
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(&[b'.'; 32 * 1024]).await.unwrap();
    client.read_exact(&mut [0; 1000]).await.unwrap();
    time::pause();
    for _ in 0..4 {
        sleep(Duration::from_secs(idle - 1)).await;
        client.read_exact(&mut [0; 1000]).await.expect("more");
    }
}
