//! What src/client/proxies.md promises.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue, PROXY_AUTHORIZATION};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::connectors::{V4, silent};
use crate::server::tls;
use harness::{Connection, LIMIT, Program, Prose, Server, page, spawn, wait};

/// The program itself, for what no command line can say.
#[allow(dead_code)]
#[path = "../../client/proxies.rs"]
mod program;

/// `aladdin:opensesame`, as the header has it.
const BASIC: &str = "Basic YWxhZGRpbjpvcGVuc2VzYW1l";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi\n";

fn proxies() -> Prose {
    page("client/proxies")
}

/// The program, with no proxy in its environment but these.
struct Run {
    child: Child,
    lines: Receiver<String>,
}

impl Run {
    fn start(variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        Run::start_with_bytes(&variables, arguments)
    }

    fn start_with_bytes(variables: &[(&str, &[u8])], arguments: &[&str]) -> Run {
        let mut command = Command::new(harness::cargo::program("proxies"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.env_remove("REQUEST_METHOD").stdin(Stdio::null());
        let variables = variables.iter();
        command
            .envs(variables.map(|(name, value)| (name, OsStr::from_bytes(value))))
            .args(arguments);
        let (child, lines) = spawn(command);
        Run { child, lines }
    }

    /// Waits for its end: whether it succeeded, and what it printed.
    fn end(&mut self) -> (bool, String) {
        wait("the end of the client", || self.child.try_wait().unwrap().is_some());
        let lines: Vec<String> = self.lines.iter().collect();
        (self.child.wait().unwrap().success(), lines.join("\n"))
    }

    #[track_caller]
    fn prints(&mut self, text: &str) {
        assert_eq!(self.end(), (true, text.to_owned()));
    }

    #[track_caller]
    fn fails(&mut self, text: &str) {
        assert_eq!(self.end(), (false, text.to_owned()));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The address of a server as that of a proxy, with a user.
fn with_user(scheme: &str, proxy: &Server) -> String {
    format!("{scheme}://aladdin:opensesame@{}", proxy.address)
}

/// A port where nobody listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A proxy for one tunnel, to this server: its address, and what it was sent: the head of the
/// CONNECT, and the bytes of the tunnel.
fn tunnel_to(server: SocketAddr) -> (SocketAddr, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, sent) = channel();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let head = Connection::new(client.try_clone().unwrap()).head().unwrap();
        let mut server = TcpStream::connect(server).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from, mut to) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            std::io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            bytes.extend(&buffer[..count]);
            server.write_all(&buffer[..count]).unwrap();
        }
        server.shutdown(Shutdown::Write).ok();
        sender.send((head, bytes)).ok();
    });
    (address, sent)
}

/// A server for one connection over TLS: its address, and the head that it was sent. It answers
/// with these bytes.
fn tls_server(
    folder: &TempDir,
    answer: &'static str,
) -> (SocketAddr, Receiver<String>) {
    let chain =
        CertificateDer::pem_file_iter(folder.path().join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, sent) = channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        sender.send(String::from_utf8(head).unwrap()).ok();
    });
    (address, sent)
}

fn ca(folder: &TempDir) -> String {
    folder.path().join("ca.pem").to_str().unwrap().to_owned()
}

#[test]
fn without_a_proxy_the_request_goes_to_the_server() {
    let server = Server::start();
    let mut client = Run::start(&[], &[&server.url("/a?b")]);
    let mut connection = server.accept();
    let head = format!("GET /a?b HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    assert_eq!(connection.head().unwrap(), head);
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");
}

#[test]
fn an_http_url_is_forwarded_in_absolute_form_with_the_credentials() {
    let proxy = Server::start();
    let variables = [("HTTP_PROXY", &*with_user("http", &proxy))];
    let mut client = Run::start(&variables, &["http://a.test/a?b"]);
    let mut connection = proxy.accept();
    let head = format!(
        "GET http://a.test/a?b HTTP/1.1\r\nproxy-authorization: {BASIC}\r\nhost: a.test\r\n\r\n"
    );
    assert_eq!(connection.head().unwrap(), head);
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");
}

#[test]
fn an_https_url_asks_for_a_tunnel_with_the_credentials() {
    let proxy = Server::start();
    let variables = [("HTTPS_PROXY", &*with_user("http", &proxy))];
    let mut client = Run::start(&variables, &["https://a.test/a?b"]);
    let mut connection = proxy.accept();
    let head = format!(
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: {BASIC}\r\n\r\n"
    );
    assert_eq!(connection.head().unwrap(), head);
    connection.send("HTTP/1.1 200 OK\r\n\r\n");
    // The handshake of TLS, version 3.1 in its first record.
    assert_eq!(connection.bytes(3).unwrap(), [22, 3, 1]);
    drop(connection);
    client.fails("client error (Connect): tls handshake eof");
}

#[test]
fn the_proxy_and_the_server_each_see_their_own_credentials_only() {
    let folder = tls::folder();
    let (server, sent) = tls_server(&folder, OK);
    let (proxy, tunnelled) = tunnel_to(server);
    let all = format!("http://aladdin:opensesame@{proxy}");
    let matcher = Arc::new(program::matcher(Some(&all)).unwrap());
    let url = format!("https://{server}/").parse().unwrap();
    let mut request = program::request(&matcher, url).unwrap();
    let secret = HeaderValue::from_static("Bearer of-the-server");
    request.headers_mut().insert(AUTHORIZATION, secret);
    run(async {
        let tls = program::tls_config(Some(&ca(&folder))).unwrap();
        let client = program::client(matcher, tls);
        let (head, body) = program::fetch(&client, request).await.unwrap();
        assert_eq!((&*head, &*body), ("HTTP/1.1 200 OK", &b"hi\n"[..]));
    });
    let (connect, bytes) = tunnelled.recv_timeout(LIMIT).unwrap();
    assert!(
        connect.contains(&format!("Proxy-Authorization: {BASIC}\r\n")),
        "{connect}"
    );
    assert!(!connect.contains("Bearer"), "{connect}");
    let bytes = String::from_utf8_lossy(&bytes);
    assert!(!bytes.contains("of-the-server"), "the proxy sees the request");
    let head = sent.recv_timeout(LIMIT).unwrap();
    assert!(head.contains("authorization: Bearer of-the-server\r\n"), "{head}");
    let proxy_auth = head.to_lowercase().contains("proxy-authorization");
    assert!(!proxy_auth, "the server gets the password of the proxy: {head}");
}

#[test]
fn a_direct_or_tunnelled_request_has_no_credentials_of_the_proxy() {
    let url = Uri::from_static("http://a.test/");
    for (matcher, sent) in [
        (Matcher::builder().all("http://u:p@proxy.test"), true),
        (Matcher::builder().all("http://u:p@proxy.test").no("a.test"), false),
        (Matcher::builder().all("socks5://u:p@proxy.test"), false),
        (Matcher::builder().all("https://u:p@proxy.test"), false),
    ] {
        let request = program::request(&matcher.build(), url.clone()).unwrap();
        assert_eq!(request.headers().contains_key(PROXY_AUTHORIZATION), sent);
    }
}

#[test]
fn no_proxy_goes_direct_and_without_credentials() {
    let (proxy, server) = (Server::start(), Server::start());
    let user = with_user("http", &proxy);
    let variables = [("HTTP_PROXY", &*user), ("NO_PROXY", "a.test, 127.0.0.0/8")];
    let mut client = Run::start(&variables, &[&server.url("/")]);
    let mut connection = server.accept();
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    assert_eq!(connection.head().unwrap(), head);
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");
    assert!(proxy.try_accept().is_none(), "the client connects to the proxy");
}

#[test]
fn what_no_proxy_covers() {
    for (no, host, direct) in [
        ("example.com", "example.com", true),
        ("example.com", "www.EXAMPLE.com", true),
        ("example.com", "badexample.com", false),
        (".example.com", "example.com", true),
        ("*.example.com", "www.example.com", false),
        ("example.com:8080", "example.com:8080", false),
        ("10.0.0.0/8", "10.1.2.3", true),
        ("::1", "[::1]", true),
        ("127.0.0.0/8, ::1", "localhost", false),
        ("", "localhost", false),
        ("*", "example.com", true),
        ("*", "10.1.2.3", false),
        ("*, 0.0.0.0/0", "10.1.2.3", true),
    ] {
        let matcher = Matcher::builder().all("http://proxy.test").no(no).build();
        let url: Uri = format!("http://{host}/").parse().unwrap();
        let found = matcher.intercept(&url).is_none();
        assert_eq!(found, direct, "NO_PROXY={no} and http://{host}/");
    }
}

/// Whether the client goes to the proxy `a`, `b` or to the server itself.
fn goes_to(a: &[&str], b: &[&str], more: &[(&str, &str)]) -> &'static str {
    let (proxies, server) = ([Server::start(), Server::start()], Server::start());
    let urls = [proxies[0].url(""), proxies[1].url("")];
    let mut variables = more.to_vec();
    for (names, url) in [a, b].iter().zip(&urls) {
        variables.extend(names.iter().map(|name| (*name, &**url)));
    }
    let mut client = Run::start(&variables, &[&server.url("/")]);
    let mut found = None;
    wait("a connection of the client", || {
        let servers = [&proxies[0], &proxies[1], &server].into_iter();
        found = servers
            .zip(["a", "b", "the server"])
            .find_map(|(server, name)| Some((server.try_accept()?, name)));
        found.is_some()
    });
    let (mut connection, name) = found.unwrap();
    connection.head().unwrap();
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");
    name
}

#[test]
fn which_variable_counts() {
    assert_eq!(goes_to(&["HTTP_PROXY"], &["http_proxy", "ALL_PROXY"], &[]), "a");
    assert_eq!(goes_to(&["http_proxy"], &["ALL_PROXY", "HTTPS_PROXY"], &[]), "a");
    assert_eq!(goes_to(&["ALL_PROXY"], &["all_proxy", "HTTPS_PROXY"], &[]), "a");
    let empty = [("HTTP_PROXY", "")];
    assert_eq!(goes_to(&["http_proxy"], &[], &empty), "the server");
    assert_eq!(goes_to(&["http_proxy"], &["ALL_PROXY"], &empty), "b");
}

#[test]
fn in_a_cgi_program_no_variable_counts() {
    let cgi = [("REQUEST_METHOD", "GET")];
    assert_eq!(goes_to(&["HTTP_PROXY", "ALL_PROXY"], &[], &cgi), "the server");
    // Nor can who sends the header `Proxy` make the program fail.
    let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "sock5://a")];
    assert_eq!(goes_to(&["HTTPS_PROXY"], &[], &cgi), "the server");
    // `--proxy` counts.
    proxies().says("so such a program needs --proxy");
    let proxy = Server::start();
    let arguments = ["http://a.test/", "--proxy", &proxy.url("")];
    let mut client = Run::start(&cgi, &arguments);
    let mut connection = proxy.accept();
    connection.head().unwrap();
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");
}

/// `std::env::var` refuses it, so the matcher takes such a variable for one that is not set.
#[test]
fn a_variable_that_is_not_utf_8_is_an_error_and_not_a_way_around_the_proxy() {
    proxies().says("A value that it cannot read, or that is not UTF-8, counts as no proxy");
    let server = Server::start();
    let url = server.url("/");
    for name in program::VARIABLES {
        // As text it would be the URL of a proxy.
        let value = b"http://127.0.0.1:1/\xff";
        assert!(
            Matcher::builder()
                .all(&*String::from_utf8_lossy(value))
                .build()
                .intercept(&url.parse().unwrap())
                .is_some()
        );
        let mut client = Run::start_with_bytes(&[(name, value)], &[&url]);
        client.fails(&format!("{name} is not UTF-8"));
    }
    assert!(server.try_accept().is_none(), "the client goes past the proxy");
}

#[test]
fn a_port_that_is_none_is_an_error_and_not_the_default() {
    proxies().says("A port such as :99999 counts as no port.");
    let no_port = "the port is not a number up to 65535";
    for port in ["99999", "x", "-1"] {
        let proxy = format!("http://u:secret@127.0.0.1:{port}");
        let mut client = Run::start(&[("HTTP_PROXY", &proxy)], &["http://a.test/"]);
        client.fails(&format!("HTTP_PROXY: {no_port}"));
        let arguments = ["https://a.test/", "--proxy", &proxy];
        Run::start(&[], &arguments).fails(&format!("--proxy: {no_port}"));
        for host in ["127.0.0.1", "[::1]"] {
            let url = format!("http://{host}:{port}/");
            Run::start(&[], &[&url]).fails(no_port);
        }
        // Neither the matcher nor hyper says a word.
        let matcher = Matcher::builder().all(&proxy).build();
        let found = matcher.intercept(&Uri::from_static("http://a.test/")).unwrap();
        assert_eq!(found.uri().port_u16(), None);
    }
    // A slash in a password makes the rest of it the port, and no error may show it.
    let proxy = "http://user:sec/ret@127.0.0.1:1";
    let mut client = Run::start(&[("HTTP_PROXY", proxy)], &["http://a.test/"]);
    client.fails(&format!("HTTP_PROXY: {no_port}"));
}

#[test]
fn a_variable_that_cannot_be_read_is_an_error_and_not_a_way_around_the_proxy() {
    let server = Server::start();
    for value in ["sock5://127.0.0.1:1080", "http://", "http://a b", "caf\u{e9}"] {
        let mut client = Run::start(&[("ALL_PROXY", value)], &[&server.url("/")]);
        client.fails("ALL_PROXY is not the URL of a proxy");
        let url = server.url("/").parse().unwrap();
        let matcher = Matcher::builder().all(value).build();
        assert!(matcher.intercept(&url).is_none(), "the matcher reads {value}");
    }
    let url = server.url("/");
    let mut client = Run::start(&[], &[&url, "--proxy", "sock5://127.0.0.1:1080"]);
    client.fails("--proxy is not the URL of a proxy");
    assert!(server.try_accept().is_none(), "the client goes past the proxy");
}

#[test]
fn a_proxy_at_https_is_refused() {
    let server = Server::start();
    let proxy = format!("https://{}", server.address);
    let mut client = Run::start(&[("ALL_PROXY", &proxy)], &["http://a.test/"]);
    client.fails("client error (Connect): no support for this https proxy");
}

#[test]
fn a_user_in_the_url_is_refused_because_a_forwarding_proxy_would_see_it() {
    let proxy = Server::start();
    let variables = [("HTTP_PROXY", &*proxy.url(""))];
    let mut client = Run::start(&variables, &["http://user:secret@a.test/"]);
    client.fails("a user belongs in the header authorization, not in a URL");
    assert!(proxy.try_accept().is_none());
    // hyper itself sends the URL as it is.
    let matcher = Arc::new(program::matcher(Some(&proxy.url(""))).unwrap());
    let url = Uri::from_static("http://user:secret@a.test/");
    let request = program::request(&matcher, url).unwrap();
    let seen = thread::spawn(move || {
        let mut connection = proxy.accept();
        let head = connection.head().unwrap();
        connection.send(OK);
        head
    });
    run(async {
        let tls = program::tls_config(None).unwrap();
        let client = program::client(matcher, tls);
        program::fetch(&client, request).await.unwrap();
    });
    let head = seen.join().unwrap();
    assert!(
        head.starts_with("GET http://user:secret@a.test/ HTTP/1.1\r\n"),
        "{head}"
    );
}

/// What the client prints when the proxy answers the CONNECT with these bytes, and closes.
fn connect_answered(answer: &str) -> String {
    let proxy = Server::start();
    let variables = [("HTTPS_PROXY", &*proxy.url(""))];
    let mut client = Run::start(&variables, &["https://a.test/"]);
    let mut connection = proxy.accept();
    connection.head().unwrap();
    connection.send(answer);
    drop(connection);
    let (success, text) = client.end();
    assert!(!success, "{text}");
    text
}

#[test]
fn what_a_refused_tunnel_prints() {
    for (answer, error) in [
        ("HTTP/1.1 407 Authenticate\r\n\r\n", "proxy authorization required"),
        ("HTTP/1.0 407 Authenticate\r\n\r\n", "proxy authorization required"),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "unsuccessful"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "unsuccessful"),
        ("HTTP/1.1 201 Created\r\n\r\n", "unsuccessful"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "unsuccessful"),
        ("SSH-2.0-OpenSSH_9.7\r\n", "unsuccessful"),
        ("HTTP/1.1 200 OK\r\n", "unexpected end of file"),
        ("", "unexpected end of file"),
    ] {
        let printed = connect_answered(answer);
        assert_eq!(printed, format!("client error (Connect): tunnel error: {error}"));
    }
}

#[test]
fn a_407_to_a_forwarded_request_is_a_response() {
    let proxy = Server::start();
    let mut client =
        Run::start(&[("HTTP_PROXY", &*proxy.url(""))], &["http://a.test/"]);
    let mut connection = proxy.accept();
    connection.head().unwrap();
    connection.send(
        "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
    );
    client.prints("HTTP/1.1 407 Proxy Authentication Required");
}

#[test]
fn a_proxy_that_cannot_be_reached_is_named_in_the_error() {
    let closed = closed();
    for scheme in ["http", "socks5h", "socks4a"] {
        let proxy = format!("{scheme}://{closed}");
        let mut client = Run::start(&[("ALL_PROXY", &proxy)], &["https://a.test/"]);
        client.fails(
            "client error (Connect): no connection to the proxy: tcp connect error: \
             Connection refused (os error 111)",
        );
    }
}

/// The bytes of a name in SOCKS 5.
fn name(host: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 3, host.len() as u8];
    bytes.extend(host.as_bytes());
    bytes.extend(port.to_be_bytes());
    bytes
}

#[test]
fn socks5h_sends_the_name_with_the_port_of_the_scheme_and_the_credentials() {
    let proxy = Server::start();
    let variables = [("ALL_PROXY", &*with_user("socks5h", &proxy))];
    let mut client = Run::start(&variables, &["http://a.test/a"]);
    let mut connection = proxy.accept();
    assert_eq!(connection.bytes(3).unwrap(), [5, 1, 2]);
    connection.send([5, 2]);
    assert_eq!(connection.bytes(20).unwrap(), *b"\x01\x07aladdin\x0aopensesame");
    connection.send([1, 0]);
    let wanted = name("a.test", 80);
    assert_eq!(connection.bytes(wanted.len()).unwrap(), wanted);
    connection.send([5, 0, 0, 1, 127, 0, 0, 1, 0, 80]);
    let head = "GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n";
    assert_eq!(connection.head().unwrap(), head);
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");
}

#[test]
fn socks5_and_socks4_resolve_the_name_here() {
    let proxy = Server::start();
    let url = format!("socks5://{}", proxy.address);
    let _client = Run::start(&[("ALL_PROXY", &url)], &["https://localhost:8443/"]);
    let mut connection = proxy.accept();
    assert_eq!(connection.bytes(3).unwrap(), [5, 1, 0]);
    connection.send([5, 0]);
    let address = connection.bytes(4).unwrap();
    assert!([1, 4].contains(&address[3]), "no address: {address:?}");

    let url = format!("socks4://{}", proxy.address);
    let _client = Run::start(&[("ALL_PROXY", &url)], &["https://localhost:8443/"]);
    let wanted = [4, 1, 0x20, 0xfb, 127, 0, 0, 1, 0];
    assert_eq!(proxy.accept().bytes(9).unwrap(), wanted);
}

#[test]
fn socks4a_sends_the_name() {
    let proxy = Server::start();
    let url = format!("socks4a://{}", proxy.address);
    let mut client = Run::start(&[("ALL_PROXY", &url)], &["http://a.test/"]);
    let mut connection = proxy.accept();
    let wanted = b"\x04\x01\x00\x50\x00\x00\x00\xff\x00a.test\x00";
    assert_eq!(connection.bytes(wanted.len()).unwrap(), wanted);
    connection.send([0, 0x5a, 0, 0, 0, 0, 0, 0]);
    connection.head().unwrap();
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");
}

#[test]
fn socks4_with_a_user_is_refused() {
    let proxy = Server::start();
    let variables = [("ALL_PROXY", &*with_user("socks4", &proxy))];
    let mut client = Run::start(&variables, &["http://127.0.0.1/"]);
    client.fails("client error (Connect): no support for this socks4 proxy");
}

#[test]
fn a_socks_proxy_without_a_port_is_at_1080() {
    // Another program may listen there.
    if TcpListener::bind("127.0.0.1:1080").is_err() {
        return;
    }
    let matcher = Matcher::builder().all("socks5h://127.0.0.1").build();
    let proxy = matcher.intercept(&Uri::from_static("http://a.test/")).unwrap();
    let address = program::address(proxy.uri()).unwrap();
    assert_eq!(address.port_u16(), Some(1080));
}

/// What the client prints when a SOCKS 5 proxy sends these bytes, each after a message.
fn socks_answered(user: &str, messages: &[(usize, &[u8])]) -> String {
    let proxy = Server::start();
    let url = format!("socks5h://{user}{}", proxy.address);
    let mut client = Run::start(&[("ALL_PROXY", &url)], &["https://a.test/"]);
    let mut connection = proxy.accept();
    for (length, answer) in messages {
        connection.bytes(*length).unwrap();
        connection.send(answer);
    }
    drop(connection);
    let (success, text) = client.end();
    assert!(!success, "{text}");
    text
}

#[test]
fn what_a_refusal_of_socks_prints() {
    let length = name("a.test", 443).len();
    let refused: &[u8] = &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0];
    let forbidden: &[u8] = &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0];
    for (user, messages, error) in [
        (
            "",
            &[(3, &[5, 0xff][..])][..],
            "server does not support user/pass authentication",
        ),
        (
            "u:p@",
            &[(3, &[5, 0xff])],
            "server does not support user/pass authentication",
        ),
        ("u:p@", &[(3, &[5, 2]), (5, &[1, 1])], "credentials not accepted"),
        ("", &[(3, &[5, 0]), (length, refused)], "connection refused"),
        ("", &[(3, &[5, 0]), (length, forbidden)], "connection not allowed"),
        ("", &[(3, b"")], "io error during SOCKS handshake"),
        (
            "",
            &[(3, b"HTTP/1.1 400 Bad Request\r\n\r\n")],
            "failed parsing server response",
        ),
    ] {
        let printed = socks_answered(user, messages);
        assert_eq!(printed, format!("client error (Connect): SOCKS error: {error}"));
    }
}

/// Runs a future on a runtime of one thread, whose clock it may stop.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async {
        timeout(10 * LIMIT, future).await.expect("a time limit ends the client")
    })
}

/// The head that the proxy of this connector gets.
fn asked<C>(
    connector: impl FnOnce(Uri) -> C,
    target: &'static str,
    answer: &'static [u8],
    bytes: usize,
) -> Vec<u8>
where
    C: tower::Service<Uri> + Send + 'static,
    C::Future: Send,
{
    let proxy = Server::start();
    let connector = connector(proxy.url("/").parse().unwrap());
    let seen = thread::spawn(move || {
        let mut connection = proxy.accept();
        if !answer.is_empty() {
            connection.bytes(3).unwrap();
            connection.send(answer);
        }
        connection.bytes(bytes).unwrap()
    });
    run(async {
        connector.oneshot(Uri::from_static(target)).await.ok();
    });
    seen.join().unwrap()
}

#[test]
fn by_themselves_tunnel_and_socks_dial_443_for_a_url_without_a_port() {
    let tunnel = |proxy| Tunnel::new(proxy, HttpConnector::new());
    let connect = b"CONNECT a.test:443 HTTP/1.1\r\n";
    let seen = asked(tunnel, "http://a.test/", b"", connect.len());
    assert_eq!(seen, connect);
    let socks5 = |proxy| SocksV5::new(proxy, HttpConnector::new());
    let wanted = name("a.test", 443);
    assert_eq!(asked(socks5, "http://a.test/", &[5, 0], wanted.len()), wanted);
    let socks4 = |proxy| SocksV4::new(proxy, HttpConnector::new());
    let seen = asked(socks4, "http://a.test/", b"", 4);
    assert_eq!(seen, [4, 1, 1, 0xbb]);
}

#[test]
fn a_socks_url_for_an_http_connector_and_a_refusing_proxy_print_no_cause() {
    let closed = closed();
    run(async {
        for (proxy, cause) in [
            (format!("http://{closed}"), "Connection refused"),
            (format!("socks5://{closed}"), "scheme is not http"),
        ] {
            let socks = SocksV5::new(proxy.parse().unwrap(), HttpConnector::new());
            let client: Client<_, Empty<Bytes>> =
                Client::builder(TokioExecutor::new()).build(socks);
            let url = Uri::from_static("https://a.test/");
            let error = client.get(url).await.unwrap_err();
            assert_eq!(
                program::report(&error),
                "client error (Connect): SOCKS error: failed to create underlying connection"
            );
            assert!(format!("{error:?}").contains(cause), "{error:?}");
        }
        let proxy = format!("http://{closed}").parse().unwrap();
        let tunnel = Tunnel::new(proxy, HttpConnector::new());
        let client: Client<_, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).build(tunnel);
        let url = Uri::from_static("https://a.test/");
        let error = client.get(url).await.unwrap_err();
        assert_eq!(
            program::report(&error),
            "client error (Connect): tunnel error: failed to create underlying connection: \
             tcp connect error: Connection refused (os error 111)"
        );
    });
}

#[test]
fn bytes_right_behind_the_head_of_the_tunnel_are_lost() {
    let proxy = Server::start();
    let address = proxy.url("/").parse().unwrap();
    let served = thread::spawn(move || {
        let mut connection = proxy.accept();
        connection.head().unwrap();
        connection.send("HTTP/1.1 200 OK\r\n\r\nHELLO");
        assert_eq!(connection.bytes(1).unwrap(), b"?");
        connection.send("WORLD");
    });
    run(async {
        let tunnel = Tunnel::new(address, HttpConnector::new());
        let io = tunnel.oneshot(Uri::from_static("https://a.test/")).await.unwrap();
        let mut io = TokioIo::new(io);
        io.write_all(b"?").await.unwrap();
        let mut first = [0; 5];
        io.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"WORLD", "the bytes behind the head are there now");
    });
    served.join().unwrap();
}

/// Waits on the runtime itself for what a client sends, up to the end of a head.
async fn head_of(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

pub(super) fn connect_limit() -> u64 {
    proxies().number("Connecting may take {} seconds, names, proxy and TLS included")
}

#[test]
fn a_machine_that_does_not_take_the_connection_ends_at_the_limit_of_tcp() {
    let limit = proxies().number("because it ends with TCP: here after {} seconds");
    for proxied in [true, false] {
        run(async {
            let silent = silent(V4);
            let url = format!("http://{}", silent.address);
            tokio::time::pause();
            let start = Instant::now();
            let error = if proxied {
                program::run("http://a.test/", Some(&url), None).await
            } else {
                program::run(&url, None, None).await
            };
            let to_proxy = if proxied { "no connection to the proxy: " } else { "" };
            assert_eq!(
                program::report(&*error.unwrap_err()),
                format!(
                    "client error (Connect): {to_proxy}tcp connect error: deadline has elapsed"
                )
            );
            assert_eq!(start.elapsed().as_secs(), limit);
        });
    }
}

#[test]
fn a_silent_proxy_ends_at_the_limit_for_connecting() {
    let limit = connect_limit();
    assert_eq!(program::CONNECT.as_secs(), limit);
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let client = tokio::spawn(async move {
            program::run("https://a.test/", Some(&proxy), None).await
        });
        let _stream = head_of(&listener).await;
        tokio::time::pause();
        let start = Instant::now();
        let error = client.await.unwrap().unwrap_err();
        let waited = start.elapsed().as_secs();
        let message = "client error (Connect): deadline has elapsed";
        assert_eq!(program::report(&*error), message);
        assert!((limit / 2..=limit).contains(&waited), "{waited} s, not {limit}");
    });
}

#[test]
fn a_silent_server_behind_a_tunnel_ends_at_the_same_limit() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let client = tokio::spawn(async move {
            program::run("https://a.test/", Some(&proxy), None).await
        });
        let mut stream = head_of(&listener).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // The handshake has begun.
        assert_eq!(stream.read_u8().await.unwrap(), 22);
        tokio::time::pause();
        let start = Instant::now();
        let error = client.await.unwrap().unwrap_err();
        let message = "client error (Connect): deadline has elapsed";
        assert_eq!(program::report(&*error), message);
        let waited = start.elapsed().as_secs();
        assert!(waited <= program::CONNECT.as_secs(), "{waited} s");
    });
}

#[test]
fn a_body_that_stalls_behind_a_proxy_ends_at_the_total_limit() {
    let limit = proxies().number("and the whole request {} seconds, with its body");
    assert_eq!(program::TOTAL.as_secs(), limit);
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let client = tokio::spawn(async move {
            program::run("http://a.test/", Some(&proxy), None).await
        });
        let mut stream = head_of(&listener).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nh")
            .await
            .unwrap();
        tokio::time::pause();
        let start = Instant::now();
        let error = client.await.unwrap().unwrap_err();
        let waited = start.elapsed().as_secs();
        assert_eq!(program::report(&*error), "deadline has elapsed");
        assert!((limit / 2..=limit).contains(&waited), "{waited} s, not {limit}");
    });
}

#[test]
fn without_a_limit_a_silent_proxy_holds_the_client() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(Duration::from_secs(1)));
        let tunnel = Tunnel::new(proxy.parse().unwrap(), tcp);
        let client: Client<_, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).build(tunnel);
        let url = Uri::from_static("https://a.test/");
        let request = tokio::spawn(client.get(url));
        let _stream = head_of(&listener).await;
        tokio::time::pause();
        let ended = timeout(5 * LIMIT, request).await;
        assert!(ended.is_err(), "the request ends by itself: {ended:?}");
    });
}

#[test]
fn http2_goes_through_the_tunnel_of_connect_proxy() {
    let folder = tls::folder();
    let mut command = Command::new(harness::cargo::program("tls"));
    command.current_dir(&folder);
    let server = Program::listen(command);
    let proxy = crate::server::connect_proxy::start(&[server.address.to_string()]);
    let url = format!("https://{}/", server.address);
    let proxy = format!("http://{}", proxy.address);
    let arguments = [&*url, "--proxy", &proxy, "--ca", &ca(&folder)];
    Run::start(&[], &arguments).prints("HTTP/2.0 200 OK\nHello over HTTP/2.0!");
}

#[test]
fn a_proxy_at_https_takes_an_https_connector_in_the_tunnel() {
    let folder = tls::folder();
    let (proxy, sent) = tls_server(&folder, "HTTP/1.1 403 Forbidden\r\n\r\n");
    run(async {
        let tls = program::tls_config(Some(&ca(&folder))).unwrap();
        let https =
            || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_only();
        let to_proxy = https().enable_http1().build();
        let tunnel =
            Tunnel::new(format!("https://{proxy}").parse().unwrap(), to_proxy);
        let connector = https().enable_all_versions().wrap_connector(tunnel);
        let client: Client<_, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).build(connector);
        let error =
            client.get(Uri::from_static("https://a.test/")).await.unwrap_err();
        let message = "client error (Connect): tunnel error: unsuccessful";
        assert_eq!(program::report(&error), message);
    });
    let head = sent.recv_timeout(LIMIT).unwrap();
    assert_eq!(head, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
}

/// tinyproxy, with the user of the page.
fn tinyproxy() -> (Program, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tinyproxy.conf");
    let config = include_str!("../../client/tinyproxy.conf");
    let program = Program::of_others(|port| {
        let port = format!("Port {port}");
        assert!(config.contains("Port 8888"));
        fs::write(&file, config.replace("Port 8888", &port)).unwrap();
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&file);
        command
    });
    (program, folder)
}

#[test]
#[ignore = "needs tinyproxy"]
fn others_tinyproxy_with_a_password() {
    let (tinyproxy, _config) = tinyproxy();
    let proxy = |user: &str| format!("http://{user}{}", tinyproxy.address);
    let right = proxy("aladdin:opensesame@");
    let folder = tls::folder();
    let (server, sent) = tls_server(&folder, OK);
    let url = format!("https://{server}/");
    let mut client =
        Run::start(&[("HTTPS_PROXY", &right)], &[&url, "--ca", &ca(&folder)]);
    client.prints("HTTP/1.1 200 OK\nhi");
    let head = sent.recv_timeout(LIMIT).unwrap();
    assert!(!head.to_lowercase().contains("proxy-"), "{head}");

    let server = Server::start();
    let mut client = Run::start(&[("HTTP_PROXY", &right)], &[&server.url("/a")]);
    let mut connection = server.accept();
    let head = connection.head().unwrap();
    assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("\r\nvia: "), "{head}");
    assert!(!head.to_lowercase().contains("proxy-"), "{head}");
    connection.send(OK);
    drop(connection);
    let (success, printed) = client.end();
    assert!(success && printed.ends_with("200 OK\nhi"), "{printed}");

    // Without a user 407, with a wrong one 401.
    let refused = "client error (Connect): tunnel error: ";
    let mut client = Run::start(&[("HTTPS_PROXY", &proxy(""))], &[&url]);
    client.fails(&format!("{refused}proxy authorization required"));
    let wrong = proxy("aladdin:wrong@");
    let mut client = Run::start(&[("HTTPS_PROXY", &wrong)], &[&url]);
    client.fails(&format!("{refused}unsuccessful"));
    let mut client = Run::start(&[("HTTP_PROXY", &wrong)], &[&server.url("/")]);
    let (success, printed) = client.end();
    assert!(success && printed.contains(" 401 Unauthorized\n"), "{printed}");
}

#[test]
#[ignore = "needs microsocks"]
fn others_microsocks_with_a_password() {
    let microsocks = Program::of_others(|port| {
        let mut command = Command::new("microsocks");
        let port = port.to_string();
        command.args(["-i", "127.0.0.1", "-p", &port, "-u", "user", "-P", "secret"]);
        command
    });
    let proxy =
        |scheme: &str, user: &str| format!("{scheme}://{user}{}", microsocks.address);
    let folder = tls::folder();
    let (server, _sent) = tls_server(&folder, OK);
    let url = format!("https://localhost:{}/", server.port());
    let right = proxy("socks5h", "user:secret@");
    let mut client =
        Run::start(&[("ALL_PROXY", &right)], &[&url, "--ca", &ca(&folder)]);
    client.prints("HTTP/1.1 200 OK\nhi");

    let server = Server::start();
    let right = proxy("socks5", "user:secret@");
    let mut client = Run::start(&[("ALL_PROXY", &right)], &[&server.url("/a")]);
    let mut connection = server.accept();
    assert!(connection.head().unwrap().starts_with("GET /a HTTP/1.1\r\n"));
    connection.send(OK);
    client.prints("HTTP/1.1 200 OK\nhi");

    for (proxy, url, error) in [
        (
            proxy("socks5h", "user:wrong@"),
            server.url("/"),
            "credentials not accepted",
        ),
        (
            proxy("socks5h", ""),
            server.url("/"),
            "server does not support user/pass authentication",
        ),
        (right, format!("http://{}/", closed()), "connection refused"),
        (proxy("socks4", ""), server.url("/"), "io error during SOCKS handshake"),
    ] {
        let mut client = Run::start(&[("ALL_PROXY", &proxy)], &[&url]);
        client.fails(&format!("client error (Connect): SOCKS error: {error}"));
    }
}
