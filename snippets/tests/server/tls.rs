//! What src/server/tls.md promises.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex,
};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    self, AlertDescription, ClientConfig, RootCertStore, ServerConfig,
};

use crate::server::limits::{
    END_HEADERS_AND_STREAM, HEADERS, PREFACE, SETTINGS, end, frame,
};
use harness::{Connection, LIMIT, Program, Prose, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/tls.rs"]
mod program;

fn tls() -> Prose {
    page("server/tls")
}

fn handshake() -> u64 {
    tls().number("a client has {} seconds for the handshake")
}

fn head() -> u64 {
    tls().number("An HTTP/1 client that falls silent is gone after {} seconds")
}

fn first_request() -> u64 {
    tls().number("An HTTP/2 client has {} seconds for its first request")
}

fn ping() -> u64 {
    let [after, answer] = tls().numbers(
        "After {} seconds without a request it gets a PING, and has {} seconds to answer",
    );
    after + answer
}

/// A folder with what `make-certificates` makes.
pub fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let made = make_certificates(folder.path());
    assert!(made.0, "{}", made.1);
    folder
}

/// Whether it succeeds, and what it prints.
fn make_certificates(folder: &Path) -> (bool, String) {
    let mut command = Command::new(harness::cargo::program("make-certificates"));
    let output = command.current_dir(folder).output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), printed)
}

/// The program, in a folder with certificates.
fn start() -> (Program, TempDir) {
    let folder = folder();
    let mut command = Command::new(harness::cargo::program("tls"));
    command.current_dir(&folder);
    (Program::listen(command), folder)
}

/// The program with a second port, for plain HTTP, at this address.
fn start_with_redirect() -> (Program, String, TempDir) {
    let folder = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$1\" 127.0.0.1:0"]);
    command.arg(harness::cargo::program("tls")).current_dir(&folder);
    let program = Program::listen(command);
    let line = program.line();
    let plain = line.strip_prefix("redirecting from http://");
    let plain = plain.unwrap_or_else(|| panic!("not the second address: {line}"));
    (program, plain.to_owned(), folder)
}

/// A client that trusts the CA in the folder, and offers these versions of HTTP.
pub fn client(folder: &TempDir, versions: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots(folder))
        .with_no_client_auth();
    config.alpn_protocols = alpn(versions);
    config
}

pub fn alpn(versions: &[&str]) -> Vec<Vec<u8>> {
    versions.iter().map(|version| version.as_bytes().to_vec()).collect()
}

pub fn roots(folder: &TempDir) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(folder.path().join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    roots
}

/// The handshake of a client that asks for this name.
pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    config: ClientConfig,
    name: &str,
) -> io::Result<TlsStream<T>> {
    let name = name.to_owned().try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn connect_to(program: &Program, config: ClientConfig) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(program.address).await.unwrap();
    connect(stream, config, "localhost").await.unwrap()
}

/// Asks by hyper's client for the negotiated version: the status, the version and the text.
pub async fn ask<T>(stream: TlsStream<T>) -> (u16, Version, String)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    in_time(answer(stream)).await
}

async fn answer<T>(stream: TlsStream<T>) -> (u16, Version, String)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let response = if http2 {
        let executor = TokioExecutor::new();
        let (mut client, conn) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(conn);
        let request = Request::get("https://localhost/").body(Empty::<Bytes>::new());
        client.send_request(request.unwrap()).await.unwrap()
    } else {
        let (mut client, conn) =
            hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(conn);
        let request = Request::get("/").header("host", "localhost");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        client.send_request(request).await.unwrap()
    };
    let (status, version) = (response.status().as_u16(), response.version());
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, version, String::from_utf8(text.into()).unwrap())
}

/// Fails a test that hangs.
pub async fn in_time<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, test).await.expect("the test ends in time")
}

#[test]
fn keys_are_for_their_owner_alone_and_nothing_is_replaced() {
    let folder = folder();
    let mode =
        tls().number("On Unix, only its owner can read a file with a key (mode {})");
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let permissions = entry.metadata().unwrap().permissions().mode() & 0o777;
        let octal: u64 = format!("{permissions:o}").parse().unwrap();
        assert_eq!(octal == mode, name.ends_with("key.pem"), "{name} has {octal}");
    }
    let before = fs::read(folder.path().join("key.pem")).unwrap();
    let (success, printed) = make_certificates(folder.path());
    assert!(!success && printed.contains("ca.pem: File exists"), "{printed}");
    assert_eq!(fs::read(folder.path().join("key.pem")).unwrap(), before);
}

// On the running program.

#[tokio::test]
async fn the_version_is_negotiated_and_served() {
    let (program, folder) = start();
    in_time(async {
        for (offered, chosen, version) in [
            (&["h2", "http/1.1"][..], Some("h2"), Version::HTTP_2),
            (&["http/1.1", "h2"], Some("h2"), Version::HTTP_2),
            (&["http/1.1"], Some("http/1.1"), Version::HTTP_11),
            (&[], None, Version::HTTP_11),
        ] {
            let stream = connect_to(&program, client(&folder, offered)).await;
            let negotiated = stream.get_ref().1.alpn_protocol();
            assert_eq!(negotiated, chosen.map(str::as_bytes), "of {offered:?}");
            let hello = format!("Hello over {version:?}!\n");
            assert_eq!(ask(stream).await, (200, version, hello));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_offers_no_version_of_ours_is_refused() {
    let (program, folder) = start();
    in_time(async {
        let stream = TcpStream::connect(program.address).await.unwrap();
        let config = client(&folder, &["http/1.0"]);
        let error = connect(stream, config, "localhost").await.unwrap_err();
        let alert = "received fatal alert: NoApplicationProtocol";
        assert_eq!(error.to_string(), alert);
        assert_eq!(
            program.line(),
            "connection failed: peer doesn't support any known protocol"
        );
    })
    .await;
}

#[tokio::test]
async fn the_version_is_that_of_the_handshake_whatever_the_first_bytes_are() {
    let (program, folder) = start();
    in_time(async {
        let mut stream = connect_to(&program, client(&folder, &["http/1.1"])).await;
        let settings = frame(SETTINGS, 0, 0, &[]);
        let hello = [PREFACE.as_bytes(), &settings].concat();
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; 8];
        // A version that HTTP/1 does not have.
        let read = stream.read_exact(&mut answer).await;
        assert!(read.is_err() || &answer == b"HTTP/1.1", "{answer:?}");
        let line = program.line();
        assert_eq!(
            line,
            "connection failed: invalid HTTP version parsed (found HTTP2 preface)"
        );

        let mut stream = connect_to(&program, client(&folder, &["h2"])).await;
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        assert!(!answer.starts_with(b"HTTP/1.1"), "the answer is HTTP/2");
        let line = program.line();
        assert!(line.starts_with("connection failed: http2 error"), "{line}");
    })
    .await;
}

/// How a client begins that then falls silent: the start of a TLS record.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00";

#[tokio::test]
async fn stalled_handshakes_block_nobody() {
    let (program, folder) = start();
    // In the accept loop, one after the other, they would take longer than the test.
    let count = LIMIT.as_secs() / handshake() + 1;
    let _stalled: Vec<Connection> = (0..count)
        .map(|_| {
            let mut stalled = program.connect();
            stalled.send(HALF);
            stalled
        })
        .collect();
    in_time(async {
        let stream = connect_to(&program, client(&folder, &["h2"])).await;
        assert_eq!(ask(stream).await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn clients_over_the_cap_wait_for_a_place() {
    let cap = tls().number("With {} connections open, the next clients wait");
    let (program, folder) = start();
    let mut silent: Vec<Connection> = (0..cap).map(|_| program.connect()).collect();
    in_time(async {
        let stream = TcpStream::connect(program.address).await.unwrap();
        let over = connect(stream, client(&folder, &[]), "localhost");
        let mut over = std::pin::pin!(over);
        // Without the cap its handshake ends well before that.
        let waits = timeout(Duration::from_secs(1), over.as_mut()).await;
        assert!(waits.is_err(), "there is no cap");
        silent.pop();
        assert_eq!(ask(over.await.unwrap()).await.0, 200);
    })
    .await;
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let folder = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 20; exec \"$0\" \"$@\""]);
    command.arg(harness::cargo::program("tls")).current_dir(&folder);
    let mut program = Program::listen(command);
    let connections: Vec<Connection> = (0..30).map(|_| program.connect()).collect();
    let failed = "accept failed: Too many open files (os error 24)";
    assert_eq!(program.line(), failed);
    let start = Instant::now();
    thread::sleep(Duration::from_millis(300));
    drop(connections);
    assert_eq!(curl(&program, &folder, &[]), "Hello over HTTP/2.0!\n");
    // A loop without a pause prints this many lines in a few milliseconds.
    let most = 100 * (start.elapsed().as_secs() as usize + 1);
    program.signal("KILL");
    let (_, lines) = program.wait();
    let count = lines.iter().filter(|line| *line == failed).count();
    assert!(count <= most, "accept failed {count} times, so there is no pause");
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_server() {
    let folder = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 20; exec \"$0\" \"$@\" 2>/dev/full"]);
    command.arg(harness::cargo::program("tls")).current_dir(&folder);
    let program = Program::listen(command);
    let connections: Vec<Connection> = (0..30).map(|_| program.connect()).collect();
    thread::sleep(Duration::from_millis(300));
    drop(connections);
    let answer = curl(&program, &folder, &[]);
    assert_eq!(
        answer, "Hello over HTTP/2.0!\n",
        "a line of the log ended the server"
    );
}

#[test]
fn curl_does_not_know_the_ca() {
    let (program, folder) = start();
    let answer = curl(&program, &folder, &["--cacert", "example-cert.pem"]);
    let text = "SSL certificate problem: unable to get local issuer certificate";
    assert!(answer.contains(text), "{answer}");
}

/// What `handle` avoids: the body of an answer to `HEAD` over HTTP/2.
#[tokio::test]
async fn a_body_in_the_answer_to_head_breaks_http2() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let hello = hyper::service::service_fn(async |_| {
            let body = http_body_util::Full::new(Bytes::from_static(b"hello"));
            Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), hello)
            .await
            .ok();
    });
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-q", "--noproxy", "*", "-sS", "--head", "--http2-prior-knowledge"]);
    let output = in_time(curl.arg(url).output()).await.unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    let text = "HTTP/2 stream 1 was not closed cleanly: PROTOCOL_ERROR";
    assert!(printed.contains(text), "{printed}");
}

/// What curl prints.
fn curl(program: &Program, folder: &TempDir, options: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-q", "--noproxy", "*", "-sS", "--max-time", "20"])
        .args(["--cacert", "ca.pem"])
        .args(options)
        .arg(format!("https://{}/", program.address))
        .current_dir(folder)
        .output()
        .expect("curl can be started");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// What a client that sends these bytes gets, until the server closes.
fn answer_to(program: &Program, bytes: &[u8]) -> Vec<u8> {
    let mut stream = std::net::TcpStream::connect(program.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    io::Write::write_all(&mut stream, bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server closes, and does not reset");
    answer
}

const HANDSHAKE_FAILURE: u8 = 40;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

/// A fatal alert of TLS.
pub fn alert(code: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, code]
}

#[test]
fn plain_http_on_the_tls_port_gets_an_alert_and_a_close() {
    let (program, _folder) = start();
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(answer_to(&program, request), alert(DECODE_ERROR));
    assert_eq!(
        program.line(),
        "connection failed: received corrupt message of type InvalidContentType"
    );
}

/// The hello of a client whose newest version of TLS is this one. It offers a suite that all have, an
/// elliptic curve and signatures.
fn client_hello(minor: u8, with_signatures: bool) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.push(0);
    // ECDHE-ECDSA with AES-256-CBC (1.0) and with AES-128-GCM (1.2).
    hello.extend([0, 4, 0xc0, 0x0a, 0xc0, 0x2b, 1, 0]);
    let groups = [0, 10, 0, 4, 0, 2, 0, 23];
    let points = [0, 11, 0, 2, 1, 0];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    let signatures = if with_signatures { &signatures[..] } else { &[] };
    let extensions = [&groups[..], &points, signatures].concat();
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    record
}

#[test]
fn versions_before_tls_1_2_are_refused() {
    let (program, _folder) = start();
    for minor in [1, 2] {
        for (with_signatures, code, reason) in [
            (true, PROTOCOL_VERSION, "Tls12NotOffered"),
            // As `openssl s_client -tls1_1` begins.
            (false, HANDSHAKE_FAILURE, "SignatureAlgorithmsExtensionRequired"),
        ] {
            let answer = answer_to(&program, &client_hello(minor, with_signatures));
            assert_eq!(answer, alert(code), "to TLS 1.{}", minor - 1);
            let line = format!("connection failed: peer is incompatible: {reason}");
            assert_eq!(program.line(), line);
        }
    }
    // The same hello with TLS 1.2 is accepted: the answer is a handshake message.
    let mut connection = program.connect();
    connection.send(client_hello(3, true));
    assert_eq!(connection.bytes(3).unwrap(), [22, 3, 3]);
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_served() {
    let (program, folder) = start();
    in_time(async {
        for version in [&TLS12, &TLS13] {
            let mut config = ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots(&folder))
                .with_no_client_auth();
            config.alpn_protocols = alpn(&["h2", "http/1.1"]);
            let stream = connect_to(&program, config).await;
            let spoken = stream.get_ref().1.protocol_version();
            assert_eq!(spoken, Some(version.version));
            assert_eq!(ask(stream).await.1, Version::HTTP_2);
        }
    })
    .await;
}

#[tokio::test]
async fn what_clients_leave_in_the_log() {
    let (program, folder) = start();
    in_time(async {
        // A client that does not trust the CA.
        let distrusting = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let stream = TcpStream::connect(program.address).await.unwrap();
        connect(stream, distrusting, "localhost").await.unwrap_err();
        assert_eq!(
            program.line(),
            "connection failed: received fatal alert: UnknownCA"
        );
        // A client with suites for certificates with RSA keys only.
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|suite| {
            format!("{:?}", suite.suite()).starts_with("TLS_ECDHE_RSA")
        });
        let old = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(roots(&folder))
            .with_no_client_auth();
        let stream = TcpStream::connect(program.address).await.unwrap();
        connect(stream, old, "localhost").await.unwrap_err();
        assert_eq!(
            program.line(),
            "connection failed: peer is incompatible: NoCipherSuitesInCommon"
        );
        // A port scan.
        drop(program.connect());
        assert_eq!(program.line(), "connection failed: tls handshake eof");
        // A client that resets the connection while it is answered.
        let mut stream = connect_to(&program, client(&folder, &["h2"])).await;
        stream.write_all(PREFACE.as_bytes()).await.unwrap();
        stream.get_ref().0.set_zero_linger().unwrap();
        drop(stream);
        let line = program.line().to_lowercase();
        let reset = ["broken pipe", "connection reset"];
        assert!(reset.iter().any(|text| line.contains(text)), "{line}");
    })
    .await;
    // Chrome sends the first of these in the place of `UnknownCA`.
    for (alert, text) in [
        (AlertDescription::CertificateUnknown, "CertificateUnknown"),
        (AlertDescription::CertificateExpired, "CertificateExpired"),
    ] {
        let text = format!("received fatal alert: {text}");
        assert_eq!(rustls::Error::AlertReceived(alert).to_string(), text);
    }
}

#[test]
fn plain_http_is_redirected() {
    let (program, plain, _folder) = start_with_redirect();
    let port = program.address.port();
    let ask = |request: &str| {
        let mut connection =
            Connection::new(std::net::TcpStream::connect(&plain).unwrap());
        connection.send(request);
        let answer = connection.response().unwrap();
        // HTTP/1.0 closes anyway.
        let closes = answer.header("connection") == Some("close");
        assert!(closes || request.contains("HTTP/1.0"), "{request:?}");
        let location = answer.header("location").map(str::to_owned);
        (answer.status()[9..12].to_owned(), location)
    };
    for (request, location) in [
        ("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "localhost:{}/"),
        (
            "GET /a%20b?c=d HTTP/1.1\r\nhost: LocalHost:80\r\n\r\n",
            "localhost:{}/a%20b?c=d",
        ),
        (
            "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\nhi",
            "127.0.0.1:{}/",
        ),
        // A path that is an address, and a target that names another host.
        (
            "GET //evil.example/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "localhost:{}//evil.example/",
        ),
        (
            "GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "localhost:{}/",
        ),
        ("GET / HTTP/1.1\r\nhost: evil.example@localhost\r\n\r\n", "localhost:{}/"),
    ] {
        let location =
            format!("https://{}", location.replace("{}", &port.to_string()));
        assert_eq!(ask(request), ("308".to_owned(), Some(location)), "{request:?}");
    }
    for request in [
        "GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost.evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost@evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: evil-localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: local host\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: \r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        assert_eq!(ask(request), ("400".to_owned(), None), "{request:?}");
    }
}

#[test]
fn a_browser_is_told_to_use_https() {
    let (program, folder) = start();
    let head = curl(&program, &folder, &["--head"]);
    assert!(head.contains("strict-transport-security: max-age=300"), "{head}");
}

/// The error that the program ends with.
fn error_in(folder: &TempDir) -> String {
    let mut command = Command::new(harness::cargo::program("tls"));
    let output = command.arg("127.0.0.1:0").current_dir(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
}

#[test]
fn errors_in_the_files_are_reported() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let replace = |name: &str, by: &str| {
        let saved = fs::read(path(name)).unwrap();
        fs::write(path(name), by).unwrap();
        let error = error_in(&folder);
        fs::write(path(name), saved).unwrap();
        error
    };
    let other = fs::read_to_string(path("client-key.pem")).unwrap();
    let key = fs::read_to_string(path("key.pem")).unwrap();
    let cert = fs::read_to_string(path("cert.pem")).unwrap();

    // A key without a certificate, and the reverse; a text that is not PEM; half of a file.
    assert_eq!(
        replace("cert.pem", &key),
        "Error: \"cert.pem: there is no certificate in it\""
    );
    for by in [&cert, "no PEM", "", &key.replace("PRIVATE", "ENCRYPTED PRIVATE")] {
        assert_eq!(replace("key.pem", by), "Error: \"key.pem: no items found\"");
    }
    let half = replace("cert.pem", &cert[..cert.len() / 2]);
    assert!(
        half.starts_with("Error: \"cert.pem: missing section end marker"),
        "{half}"
    );
    // Both are right, but do not belong together.
    assert_eq!(
        replace("key.pem", &other),
        "Error: \"cert.pem: keys may not be consistent: KeyMismatch\""
    );
    fs::remove_file(path("key.pem")).unwrap();
    assert_eq!(
        error_in(&folder),
        "Error: \"key.pem: I/O error: No such file or directory (os error 2)\""
    );
}

/// What rustls says when nobody checks that there is a certificate, and about keys that do not match.
#[test]
fn what_rustls_says_about_certificates() {
    let folder = folder();
    let key = |name: &str| PrivateKeyDer::from_pem_file(folder.path().join(name));
    let build = |chain, key| {
        let config = ServerConfig::builder().with_no_client_auth();
        config.with_single_cert(chain, key).unwrap_err().to_string()
    };
    let error = build(vec![], key("key.pem").unwrap());
    assert_eq!(error, "peer sent no certificates");
    let cert = CertificateDer::from_pem_file(folder.path().join("cert.pem"));
    let error = build(vec![cert.unwrap()], key("client-key.pem").unwrap());
    assert_eq!(error, "keys may not be consistent: KeyMismatch");
}

// On an in-memory connection, with a clock that stands still while there is work to do.

/// A connection to the program, and how it ends.
fn begin(folder: &TempDir) -> (DuplexStream, JoinHandle<Result<(), String>>) {
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let config = program::tls_config(&file("cert.pem"), &file("key.pem")).unwrap();
    let (client, server) = duplex(64 * 1024);
    let conn = tokio::spawn(async {
        program::serve(server, Arc::new(config).into())
            .await
            .map_err(|error| program::report(&*error))
    });
    (client, conn)
}

fn error(seconds: u64, text: &str) -> (u64, Result<(), String>) {
    (seconds, Err(text.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_at_its_limit() {
    let folder = folder();
    for (bytes, slowly) in [(&b""[..], false), (HALF, false), (HALF, true)] {
        let (mut client, conn) = begin(&folder);
        client.write_all(bytes).await.unwrap();
        let (_reader, mut writer) = tokio::io::split(client);
        let slow = tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                if slowly {
                    writer.write_all(b"\x01").await.ok();
                }
            }
        });
        assert_eq!(end(conn).await, error(handshake(), "no TLS handshake in time"));
        slow.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_after_its_handshake_goes() {
    let folder = folder();
    let settings = frame(SETTINGS, 0, 0, &[]);
    let preface = [PREFACE.as_bytes(), &settings].concat();
    let no_head = "read header from client timeout";
    for (version, bytes, expected) in [
        ("http/1.1", &b""[..], error(head(), no_head)),
        ("http/1.1", b"GET / HTTP/1.1\r\n", error(head(), no_head)),
        ("http/1.1", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", error(head(), no_head)),
        ("h2", b"", error(first_request(), "no request in time")),
        ("h2", b"PRI * HTTP", error(first_request(), "no request in time")),
        ("h2", &preface, error(first_request(), "no request in time")),
    ] {
        let (client, conn) = begin(&folder);
        let config = self::client(&folder, &[version]);
        let mut client = connect(client, config, "localhost").await.unwrap();
        client.write_all(bytes).await.unwrap();
        client.flush().await.unwrap();
        let what = String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(end(conn).await, expected, "{version} {what:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_is_gone_after_its_request_is_found() {
    let folder = folder();
    let (client, conn) = begin(&folder);
    let config = self::client(&folder, &["h2"]);
    let mut client = connect(client, config, "localhost").await.unwrap();
    let get = b"\x82\x86\x84\x41\x01x";
    let begun = [
        PREFACE.as_bytes(),
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_HEADERS_AND_STREAM, 1, get),
    ];
    client.write_all(&begun.concat()).await.unwrap();
    let gone = "http2 error: keep-alive timed out: operation timed out";
    assert_eq!(end(conn).await, error(ping(), gone));
}

/// The hole that the page admits. If this fails because the connection ends: say so there.
#[tokio::test(start_paused = true)]
async fn an_http2_client_that_reads_nothing_keeps_its_place() {
    tls().says("sends PINGs and reads nothing keeps its place");
    let folder = folder();
    let (client, conn) = begin(&folder);
    let config = self::client(&folder, &["h2"]);
    let mut client = connect(client, config, "localhost").await.unwrap();
    let begun = [
        PREFACE.as_bytes(),
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_HEADERS_AND_STREAM, 1, b"\x82\x86\x84\x41\x01x"),
    ];
    client.write_all(&begun.concat()).await.unwrap();
    let pings = frame(6, 0, 0, b"12345678").repeat(500);
    let full = async { while client.write_all(&pings).await.is_ok() {} };
    timeout(Duration::from_secs(1), full).await.expect_err("the answers fill up");
    sleep(Duration::from_secs(100 * ping())).await;
    assert!(!conn.is_finished(), "it is closed after all");
    // It is over when the client reads.
    while let Ok(1..) = client.read(&mut [0; 4096]).await {}
    assert!(end(conn).await.1.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_answers_pings_may_stay() {
    let folder = folder();
    let (client, conn) = begin(&folder);
    let config = self::client(&folder, &["h2"]);
    let client = connect(client, config, "localhost").await.unwrap();
    let (mut client, driver) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    for _ in 0..2 {
        let request = Request::get("https://x/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 200);
        sleep(Duration::from_secs(10 * ping())).await;
    }
    assert!(!conn.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_tcp_but_not_tls_is_an_error_only_in_the_middle() {
    let folder = folder();
    let get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let no_notify = "connection error: peer closed connection without sending TLS close_notify: \
         https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
    for (version, bytes, error) in [
        ("http/1.1", "GET / HTTP/1.1\r\n", true),
        ("http/1.1", "", false),
        ("http/1.1", get, false),
        ("h2", "", true),
        ("h2", "PRI * HTTP", true),
        ("h2", PREFACE, false),
    ] {
        let (client, conn) = begin(&folder);
        let config = self::client(&folder, &[version]);
        let mut client = connect(client, config, "localhost").await.unwrap();
        client.write_all(bytes.as_bytes()).await.unwrap();
        if bytes == get {
            assert_ne!(client.read(&mut [0; 1024]).await.unwrap(), 0);
        }
        let (mut client, _) = client.into_inner();
        client.shutdown().await.unwrap();
        let result = match error {
            true => Err(no_notify.to_owned()),
            false => Ok(()),
        };
        assert_eq!(end(conn).await, (0, result), "{version} {bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silent_clients_of_the_plain_port_go() {
    for bytes in ["", "GET / HTTP/1.1\r\n"] {
        let (mut client, server) = duplex(1024);
        let conn = tokio::spawn(async {
            let result = program::serve_redirect(server, 3000).await;
            result.map_err(|error| program::report(&error))
        });
        client.write_all(bytes.as_bytes()).await.unwrap();
        let late = error(head(), "read header from client timeout");
        assert_eq!(end(conn).await, late);
    }
}

#[tokio::test]
async fn the_usual_port_is_left_out() {
    let (mut client, server) = duplex(1024);
    tokio::spawn(program::serve_redirect(server, 443));
    client.write_all(b"GET /a HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("\r\nlocation: https://localhost/a\r\n"), "{answer}");
}
