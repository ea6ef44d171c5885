//! What src/server/proxy-protocol.md promises.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process;
use std::time::Duration;

use ppp::v2::{Builder, Command, Protocol, Type, Version};
use ppp::{HeaderResult, PartialResult};
use socket2::{Domain, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{self, timeout};

use harness::{Connection, LIMIT, Program, page};

#[allow(dead_code)]
#[path = "../../server/proxy_protocol.rs"]
mod program;

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";
const V1_IPV6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n";

fn start() -> Program {
    Program::start("proxy-protocol")
}

/// A header of version 2 about a connection from this client.
fn v2(command: Command, client: &str, load_balancer: &str) -> Builder {
    let addresses: (SocketAddr, SocketAddr) =
        (client.parse().unwrap(), load_balancer.parse().unwrap());
    Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses)
}

fn v2_ipv4(command: Command) -> Vec<u8> {
    v2(command, "203.0.113.7:56324", "192.0.2.1:443").build().unwrap()
}

fn v2_ipv6() -> Vec<u8> {
    v2(Command::Proxy, "[2001:db8::7]:56324", "[2001:db8::1]:443").build().unwrap()
}

/// With a name of the server, and bytes that fill it up to this length.
fn v2_with_extras(length: usize) -> Vec<u8> {
    let name = b"www.example.com";
    let header = v2(Command::Proxy, "203.0.113.7:56324", "192.0.2.1:443");
    let header = header.write_tlv(Type::Authority, name).unwrap();
    let fill = vec![0; length - 16 - 12 - (3 + name.len()) - 3];
    let header = header.write_tlv(Type::NoOp, &fill).unwrap().build().unwrap();
    assert_eq!(header.len(), length);
    header
}

/// Headers of each kind, and the client that each is about. `None`: the load balancer itself.
fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    vec![
        (V1.to_vec(), Some("203.0.113.7")),
        (V1_IPV6.to_vec(), Some("2001:db8::7")),
        (v2_ipv4(Command::Proxy), Some("203.0.113.7")),
        (v2_ipv6(), Some("2001:db8::7")),
        (v2_with_extras(300), Some("203.0.113.7")),
        (v2_with_extras(program::MAX_V2), Some("203.0.113.7")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN 203.0.113.7 192.0.2.1 56324 443\r\n".to_vec(), None),
        (v2_ipv4(Command::Local), None),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00".to_vec(), None),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec(), None),
        // An IPv4 client, written as an address of IPv6.
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n".to_vec(), Some("203.0.113.7")),
        (
            v2(Command::Proxy, "[::ffff:203.0.113.7]:1", "[::1]:2").build().unwrap(),
            Some("203.0.113.7"),
        ),
        // What the server must ignore, even if it makes no sense.
        (b"PROXY UNKNOWN a b c d e f\r\n".to_vec(), None),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x00".to_vec(), None),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x99\x00\x01x".to_vec(), None),
    ]
}

/// The text of the answer to `GET`.
fn answer(connection: &mut Connection) -> String {
    connection.response().unwrap().text().to_owned()
}

#[test]
fn both_versions_say_who_the_client_is() {
    let program = start();
    for (header, client) in headers() {
        let shown = header.escape_ascii().to_string();
        let expected = format!("you are {}\n", client.unwrap_or("127.0.0.1"));
        // The header and two requests at once: hyper gets each byte after the header.
        let mut connection = program.connect();
        connection.send([&header, GET.as_bytes(), GET.as_bytes()].concat());
        assert_eq!(answer(&mut connection), expected, "{shown}");
        assert_eq!(answer(&mut connection), expected, "{shown}");
        // And the requests later.
        let mut connection = program.connect();
        connection.send(&header);
        connection.send(GET);
        assert_eq!(answer(&mut connection), expected, "{shown}");
    }
}

/// The load balancer's own address.
fn peer() -> SocketAddr {
    "192.0.2.9:40000".parse().unwrap()
}

/// A connection in memory that takes this much at a time, and how it ends.
fn serve(buffer: usize) -> (DuplexStream, JoinHandle<Result<(), String>>) {
    let (load_balancer, server) = duplex(buffer);
    let end = tokio::spawn(async {
        let end = program::serve(server, peer()).await;
        end.map_err(|error| error.to_string())
    });
    (load_balancer, end)
}

#[tokio::test(start_paused = true)]
async fn a_header_may_come_in_any_pieces() {
    for (header, client) in headers() {
        let (mut load_balancer, end) = serve(1);
        load_balancer.write_all(&header).await.unwrap();
        load_balancer.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // It ends when the connection has been idle for too long.
        load_balancer.read_to_string(&mut answer).await.unwrap();
        let expected = format!("you are {}\n", client.unwrap_or("192.0.2.9"));
        let shown = header.escape_ascii();
        assert!(answer.ends_with(&expected), "{shown}: {answer} {:?}", end.await);
    }
}

#[tokio::test]
async fn it_takes_the_header_and_nothing_else() {
    for (header, _) in headers() {
        let bytes = [&header, GET.as_bytes()].concat();
        let mut stream = BufReader::new(&bytes[..]);
        assert_eq!(program::read_header(&mut stream).await.unwrap(), header);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, GET);
    }
}

/// Why a connection that begins with these bytes, and then stays open, is refused; and after how many
/// seconds. It must not get a single byte.
async fn refusal(bytes: &[u8]) -> (u64, String) {
    let (mut load_balancer, end) = serve(128 * 1024);
    let start = time::Instant::now();
    load_balancer.write_all(bytes).await.unwrap();
    let end = timeout(Duration::from_secs(86_400), end).await;
    let error = end.expect("the connection is refused").unwrap().unwrap_err();
    let mut answer = Vec::new();
    load_balancer.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"", "no answer to a connection that is refused");
    (start.elapsed().as_secs(), error)
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_header_is_refused_at_once() {
    for bytes in
        [GET, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PROXYTCP4 x", "proxy TCP4 x"]
    {
        let bytes = format!("{bytes}{GET}");
        let expected = (0, "no PROXY header".to_owned());
        assert_eq!(refusal(bytes.as_bytes()).await, expected, "{bytes:?}");
    }
    // A client of TLS.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00";
    assert_eq!(refusal(hello).await, (0, "no PROXY header".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_in_time_is_refused() {
    let limit = page("server/proxy-protocol").number("has {} seconds for the header");
    let expected = (limit, "no PROXY header in time".to_owned());
    let whole = v2_with_extras(300);
    for begun in
        [&b""[..], b"P", b"GET /", b"PROXY TCP4 203", &whole[..14], &whole[..299]]
    {
        assert_eq!(refusal(begun).await, expected, "{}", begun.escape_ascii());
    }
    // One byte a second is no progress.
    let (mut load_balancer, end) = serve(1024);
    let start = time::Instant::now();
    tokio::spawn(async move {
        for byte in V1 {
            time::sleep(Duration::from_secs(1)).await;
            load_balancer.write_all(&[*byte]).await.ok();
        }
    });
    let error = timeout(Duration::from_secs(86_400), end).await.unwrap().unwrap();
    assert_eq!((start.elapsed().as_secs(), error.unwrap_err()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_is_too_long_is_refused() {
    let page = page("server/proxy-protocol");
    let longest = page.number("A v2 header may have {} bytes") as usize;
    assert_eq!(longest, program::MAX_V2);
    let long = v2_with_extras(longest + 1);
    let (seconds, error) = refusal(&long).await;
    assert_eq!((seconds, error.as_str()), (0, "the PROXY header is too long"));
    // The announced length is enough to refuse it.
    assert_eq!(refusal(&long[..16]).await, (0, error));

    let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(program::MAX_V1 - 16));
    assert_eq!(line.len(), program::MAX_V1);
    let mut stream = BufReader::new(line.as_bytes());
    assert_eq!(program::read_header(&mut stream).await.unwrap(), line.as_bytes());
    let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(10_000));
    assert_eq!(refusal(line.as_bytes()).await.0, 0);
    let mut stream = BufReader::new(line.as_bytes());
    let taken = program::read_header(&mut stream).await.unwrap();
    assert_eq!(taken.len(), program::MAX_V1, "no more than a header may have");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_header_is_refused() {
    let mut version = v2_ipv4(Command::Proxy);
    version[12] = 0x31;
    let mut family = v2_ipv4(Command::Proxy);
    family[13] = 0x41;
    let mut short = v2_ipv6();
    short.truncate(16 + 12);
    short[15] = 12;
    for (bytes, expected) in [
        (&version, "Expected version 30 to be equal to 2."),
        (&family, "Invalid Address Family 40."),
        (&short, "Header length of 12 bytes cannot store the 36 bytes"),
    ] {
        // The error is about the version of the header.
        let (seconds, error) = refusal(bytes).await;
        assert!(seconds == 0 && error.starts_with(expected), "{seconds} {error}");
    }
    for bytes in [
        &b"PROXY TCP4 203.0.113.300 192.0.2.1 56324 443\r\n"[..],
        b"PROXY TCP4 2001:db8::7 192.0.2.1 56324 443\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 65536\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\n",
        b"PROXY TCP5 203.0.113.7 192.0.2.1 56324 443\r\n",
        b"PROXY  TCP4 203.0.113.7 192.0.2.1 56324 443\r\n",
        b"PROXY \xff\r\n    ",
        b"PROXY UNKNOWN a\n",
        b"PROXY UNKNOWN-abc\r\n",
    ] {
        let bytes = [bytes, GET.as_bytes()].concat();
        assert_eq!(refusal(&bytes).await.0, 0, "{}", bytes.escape_ascii());
    }
}

#[test]
fn only_a_load_balancer_may_connect() {
    let program = start();
    let socket = Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&program.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let own = stream.local_addr().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // The server may have closed the connection before.
    stream.write_all(&[V1, GET.as_bytes()].concat()).ok();
    match stream.read(&mut [0; 16]) {
        Ok(count) => assert_eq!(count, 0, "an answer to a stranger"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    assert_eq!(
        program.line(),
        format!("refused: {own} is not one of our load balancers")
    );
}

#[test]
fn an_ipv4_load_balancer_is_trusted_on_a_socket_for_both() {
    let mut command = process::Command::new("sh");
    command.args(["-c", "exec \"$0\" '[::]:0'"]);
    command.arg(harness::cargo::program("proxy-protocol"));
    let program = Program::listen(command);
    for header in [V1, b"PROXY UNKNOWN\r\n"] {
        let address = (Ipv4Addr::LOCALHOST, program.address.port());
        // It has its IPv4 address for the server, in the form of IPv6.
        let stream = TcpStream::connect(address)
            .expect("[::] takes IPv4: see /proc/sys/net/ipv6/bindv6only");
        let mut connection = Connection::new(stream);
        connection.send([header, GET.as_bytes()].concat());
        let client = if header == V1 { "203.0.113.7" } else { "127.0.0.1" };
        assert_eq!(answer(&mut connection), format!("you are {client}\n"));
    }
}

#[test]
fn a_connection_that_is_opened_and_closed_is_reported() {
    let program = start();
    let stream = TcpStream::connect(program.address).unwrap();
    let own = stream.local_addr().unwrap();
    drop(stream);
    assert_eq!(program.line(), format!("connection from {own} failed: early eof"));
}

#[test]
fn a_silent_load_balancer_delays_nobody() {
    let program = start();
    let silent = program.connect();
    let mut connection = program.connect();
    connection.send([V1, GET.as_bytes()].concat());
    assert_eq!(answer(&mut connection), "you are 203.0.113.7\n");
    drop(silent);
}

#[test]
fn a_server_that_does_not_expect_the_header_takes_it_for_a_request() {
    let program = Program::start("hello-world");
    for (header, error) in [
        (V1.to_vec(), "invalid HTTP version parsed"),
        (v2_ipv4(Command::Proxy), "invalid HTTP method parsed"),
    ] {
        let mut connection = program.connect();
        connection.send([&header, GET.as_bytes()].concat());
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), "HTTP/1.1 400 Bad Request");
        assert_eq!(program.line(), format!("connection failed: {error}"));
    }
}

#[test]
fn ppp_needs_the_whole_header() {
    let incomplete = |bytes: &[u8]| HeaderResult::parse(bytes).is_incomplete();
    assert!(incomplete(b"PROXY TCP4 203.0.113.7 192.0.2.1 56324"));
    assert!(!incomplete(b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 "));
}

#[tokio::test]
async fn tls_begins_after_the_header() {
    let (connector, acceptor) = super::auto::tls(&[], &[]);
    let (mut load_balancer, stream) = duplex(64 * 1024);
    let serving = async {
        let mut stream = BufReader::new(stream);
        assert_eq!(program::read_header(&mut stream).await.unwrap(), V1);
        let mut stream = acceptor.accept(stream).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let asking = async {
        load_balancer.write_all(V1).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, load_balancer).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    };
    timeout(LIMIT, async { tokio::join!(serving, asking) }).await.unwrap();
}
