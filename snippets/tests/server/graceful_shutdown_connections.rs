//! What src/server/graceful-shutdown-connections.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::net::TcpStream as StdTcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{self, sleep, timeout};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::rustls::{DigitallySignedStruct, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use tokio_util::sync::CancellationToken;

use harness::{LIMIT, Program, assert_prints, page, sockets, wait};

// What the two programs do.

const STOPPING: &str = "stopping";
const DONE: &str = "stopped: all is done";
const CUT_OFF: &str = "stopped: some were cut off at the deadline";

/// What `const NAME: Duration = Duration::from_secs(..)` of a program says, in the part `times` that
/// the page shows.
fn limit(program: &str, name: &str) -> Duration {
    let path = harness::root().join(format!("snippets/server/{program}.rs"));
    let source = fs::read_to_string(path).unwrap();
    let (_, rest) = source.split_once(&format!("const {name}: Duration = ")).unwrap();
    let rest = rest.strip_prefix("Duration::from_secs(").unwrap();
    Duration::from_secs(rest.split_once(')').unwrap().0.parse().unwrap())
}

/// A test on real sockets ends, or fails.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, test).await.expect("the test ends")
}

const CONNECTIONS: &str = "graceful_shutdown_connections";
const TLS: &str = "graceful_shutdown_tls";

fn start() -> Program {
    Program::start("graceful-shutdown-connections")
}

fn start_tls() -> Program {
    Program::start("graceful-shutdown-tls")
}

/// Waits for the end of a program that was told to stop, and had nothing to complain of.
fn ends_well(mut program: Program, printed: &[&str]) {
    let (status, lines) = program.wait();
    assert_eq!(lines, printed);
    assert_eq!(status.code(), Some(0));
}

/// A client of the WebSocket, to which one message has been sent back.
fn websocket(program: &Program) -> WebSocket<StdTcpStream> {
    let stream = StdTcpStream::connect(program.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let url = format!("ws://{}/ws", program.address);
    let (mut socket, response) = tungstenite::client(url, stream).unwrap();
    let status = page("server/graceful-shutdown-connections")
        .number("The handler answers {} and leaves");
    assert_eq!(u64::from(response.status().as_u16()), status);
    assert_eq!(program.line(), "GET /ws");
    socket.send("hello".into()).unwrap();
    assert_eq!(next(&mut socket), "hello".into());
    socket
}

/// The next message that is no ping: a ping may come at any time on a busy machine.
fn next(socket: &mut WebSocket<StdTcpStream>) -> Message {
    loop {
        let message = socket.read().unwrap();
        if !message.is_ping() {
            return message;
        }
    }
}

/// Reads the close frame that says that the server goes away. The answer to it is not sent yet.
fn going_away(socket: &mut WebSocket<StdTcpStream>) {
    let Message::Close(Some(frame)) = next(socket) else {
        panic!("no close frame");
    };
    let code =
        page("server/graceful-shutdown-connections").number("The code {} means");
    assert_eq!(u64::from(u16::from(frame.code)), code);
    assert_eq!(frame.reason, "the server is stopping");
}

#[test]
fn a_websocket_is_closed_with_1001() {
    let program = start();
    let mut socket = websocket(&program);
    program.signal("TERM");
    assert_eq!(program.line(), STOPPING);
    going_away(&mut socket);
    let closed = socket.read().unwrap_err();
    assert!(matches!(closed, tungstenite::Error::ConnectionClosed), "{closed}");
    ends_well(program, &[DONE]);
}

#[test]
fn a_websocket_that_does_not_answer_the_close_is_dropped() {
    let mut program = start();
    let mut socket = websocket(&program);
    let start = Instant::now();
    program.signal("TERM");
    // Read, and not answered.
    going_away(&mut socket);
    let (status, printed) = program.wait();
    assert!(start.elapsed() >= limit(CONNECTIONS, "PING_ANSWER"));
    // The task says why after it has let go, so the line may come late, or not at all.
    assert_prints(&printed, &[STOPPING, DONE]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_silent_websocket_gets_a_ping_and_is_dropped_without_an_answer() {
    let program = start();
    let mut socket = websocket(&program);
    let start = Instant::now();
    // `read` queues the pong, and the next call sends it. So the first ping is answered.
    assert_eq!(socket.read().unwrap(), Message::Ping(Bytes::new()));
    assert_eq!(socket.read().unwrap(), Message::Ping(Bytes::new()));
    assert!(start.elapsed() >= limit(CONNECTIONS, "PING_AFTER"));
    assert_eq!(program.line(), "websocket failed: no answer to a ping");
    program.signal("TERM");
    ends_well(program, &[STOPPING, DONE]);
}

#[test]
fn a_websocket_that_its_client_closes_does_not_hold_the_shutdown() {
    let program = start();
    let mut socket = websocket(&program);
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    program.signal("TERM");
    ends_well(program, &[STOPPING, DONE]);
}

#[test]
fn a_request_for_a_websocket_that_is_none_is_refused() {
    let program = start();
    let mut connection = program.connect();
    connection.get("/ws");
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 400 Bad Request");
    assert_eq!(
        response.text(),
        "WebSocket protocol error: No \"Connection: upgrade\" header\n"
    );
}

#[test]
fn an_event_stream_ends_well() {
    let program = start();
    let mut events = program.connect();
    events.get("/events");
    assert!(events.head().unwrap().contains("content-type: text/event-stream\r\n"));
    assert_eq!(events.chunk().unwrap().unwrap(), b"data: tick\n\n");
    program.signal("TERM");
    while let Some(chunk) = events.chunk().expect("the last chunk is sent") {
        assert_eq!(chunk, b"data: tick\n\n");
    }
    assert_eq!(events.rest().unwrap(), "");
    ends_well(program, &["GET /events", STOPPING, DONE]);
}

#[test]
fn a_spawned_job_is_completed() {
    let program = start();
    let start = Instant::now();
    let mut connection = program.connect();
    connection.get("/job");
    let response = connection.response().unwrap();
    assert_eq!(response.status(), "HTTP/1.1 202 Accepted");
    drop(connection);
    program.signal("TERM");
    ends_well(program, &["GET /job", STOPPING, "the job is done", DONE]);
    // Earlier than that, the reader of the page sees what it shows.
    let seconds = page("server/graceful-shutdown-connections")
        .number("Within {} seconds, press Ctrl+C");
    assert!(start.elapsed() >= Duration::from_secs(seconds));
}

#[test]
fn a_blocking_task_does_not_keep_the_process() {
    let mut program = start();
    let mut connection = program.connect();
    connection.get("/stuck");
    assert_eq!(program.line(), "GET /stuck");
    assert_eq!(program.line(), "the stuck job has started");
    program.signal("TERM");
    let (status, printed) = program.wait();
    let forced = "stopped by force: some task does not end";
    assert_eq!(printed, [STOPPING, DONE, forced]);
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_second_signal_ends_the_programs_at_once() {
    let start = start();
    // It does not answer the close, and so holds the shutdown.
    let _socket = websocket(&start);
    let tls = start_tls();
    let mut curl = curl(&tls);
    assert_eq!(tls.line(), "GET /");
    for mut program in [start, tls] {
        program.signal("INT");
        assert_eq!(program.line(), STOPPING);
        program.signal("INT");
        let (status, printed) = program.wait();
        assert_eq!(printed, ["stopped: told twice"]);
        assert_eq!(status.code(), Some(130));
    }
    curl.wait().unwrap();
}

#[test]
fn a_client_without_a_request_is_dropped() {
    let program = start();
    let start = Instant::now();
    // Nothing, what may become either version, and HTTP/2 without a request.
    let connections = [b"".as_slice(), b"P", &PREFACE[..20], PREFACE].map(|begin| {
        let mut connection = program.connect();
        connection.send(begin);
        connection
    });
    for _ in &connections {
        assert_eq!(program.line(), "connection failed: no request in time");
    }
    assert!(start.elapsed() >= limit(CONNECTIONS, "FIRST_REQUEST"));
}

#[test]
fn a_client_with_a_request_stays() {
    let program = start();
    let start = Instant::now();
    let mut events = program.connect();
    events.get("/events");
    events.head().unwrap();
    // The second one comes after the limit for the first request.
    for _ in 0..2 {
        assert_eq!(events.chunk().unwrap().unwrap(), b"data: tick\n\n");
    }
    assert!(start.elapsed() > limit(CONNECTIONS, "FIRST_REQUEST"));
}

#[test]
fn connections_that_close_at_once_are_no_failure() {
    let program = start();
    let mut unused = program.connect();
    let mut idle = program.connect();
    idle.get("/");
    idle.response().unwrap();
    program.signal("TERM");
    assert_eq!(unused.rest().unwrap(), "");
    assert_eq!(idle.rest().unwrap(), "");
    ends_well(program, &["GET /", STOPPING, DONE]);
}

/// Waits until the server has read all that this client has sent.
#[cfg(target_os = "linux")]
pub fn read_by_the_server(client: &StdTcpStream) {
    let port = |address: io::Result<std::net::SocketAddr>| address.unwrap().port();
    let (client, server) = (port(client.local_addr()), port(client.peer_addr()));
    let empty = |from, to| {
        sockets().iter().any(|it| {
            (it.local_port, it.remote_port) == (from, to) && it.unsent + it.unread == 0
        })
    };
    wait("the server to read", || empty(client, server) && empty(server, client));
}

#[cfg(target_os = "linux")]
#[test]
fn silent_clients_are_ended_by_the_limits_of_the_builder() {
    let mut program = start();
    let mut no_ping = StdTcpStream::connect(program.address).unwrap();
    no_ping.write_all(PREFACE).unwrap();
    no_ping.write_all(EVENTS).unwrap();
    assert_eq!(program.line(), "GET /events");
    let mut half_a_head = StdTcpStream::connect(program.address).unwrap();
    half_a_head.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    read_by_the_server(&half_a_head);
    program.signal("TERM");
    let (status, printed) = program.wait();
    assert_prints(&printed, &[STOPPING, "connection failed: ", "http2 error", DONE]);
    // Both limits are the same, and the one or the other ends it.
    let head = ["read header from client timeout", "no request in time"];
    assert!(printed.iter().any(|line| head.iter().any(|end| line.ends_with(end))));
    assert_eq!(status.code(), Some(0));
}

// Two threads: the client goes on while the test waits for the program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_ends_without_an_error() {
    in_time(async {
        let program = start();
        let mut senders = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::connect(program.address).await.unwrap();
            senders.push(http2_client(stream).await);
            let hello = senders.last_mut().unwrap().send_request(http2_get("/"));
            hello.await.unwrap().into_body().collect().await.unwrap();
        }
        // One of them is idle at the signal, on the other a stream is open.
        let events = senders[0].send_request(http2_get("/events")).await.unwrap();
        let mut events = events.into_body();
        let first = events.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "data: tick\n\n");
        program.signal("TERM");
        events.collect().await.expect("the stream ends well");
        ends_well(program, &["GET /", "GET /", "GET /events", STOPPING, DONE]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_lets_no_event_through_is_cut_off_at_the_deadline() {
    in_time(async {
        let mut program = start();
        let stream = TcpStream::connect(program.address).await.unwrap();
        let (mut sender, conn) =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(0)
                .handshake(TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(conn);
        let _events = sender.send_request(http2_get("/events")).await.unwrap();
        let start = Instant::now();
        program.signal("TERM");
        let (status, printed) = program.wait();
        assert!(start.elapsed() >= limit(CONNECTIONS, "DRAIN_DEADLINE"));
        assert_eq!(printed, ["GET /events", STOPPING, CUT_OFF]);
        assert_eq!(status.code(), Some(1));
    })
    .await;
}

/// A request over TLS, begun.
fn curl(program: &Program) -> Child {
    Command::new("curl")
        .args(["--insecure", "--silent", "--show-error", "--include"])
        .args(["--max-time", &LIMIT.as_secs().to_string()])
        .arg(format!("https://{}/", program.address))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_request_over_tls_is_answered() {
    let program = start_tls();
    let curl = curl(&program);
    assert_eq!(program.line(), "GET /");
    program.signal("TERM");
    let answer = curl.wait_with_output().unwrap();
    assert!(answer.status.success());
    let answer = String::from_utf8(answer.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("Hello, World!\n"), "{answer}");
    ends_well(program, &[STOPPING, DONE]);
}

#[test]
fn a_stalled_tls_handshake_is_bounded() {
    let mut program = start_tls();
    let start = Instant::now();
    let mut connection = program.connect();
    connection.send(TLS_BEGIN);
    // When the next connection is served, this one has been accepted.
    let curl = curl(&program);
    assert_eq!(program.line(), "GET /");
    program.signal("TERM");
    assert!(curl.wait_with_output().unwrap().status.success());
    let (status, printed) = program.wait();
    assert!(start.elapsed() >= limit(TLS, "HANDSHAKE_TIMEOUT"));
    assert_prints(
        &printed,
        &[STOPPING, "connection failed: ", "deadline has elapsed", DONE],
    );
    assert_eq!(status.code(), Some(0));
}

/// A client of the program, after the handshake.
async fn tls_client(
    program: &Program,
    config: ClientConfig,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(program.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// A client that trusts every server, as `curl --insecure` does.
pub fn insecure() -> ClientConfig {
    ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Insecure))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Insecure;

impl ServerCertVerifier for Insecure {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn a_client_that_is_silent_after_its_handshake_is_dropped() {
    in_time(async {
        let program = start_tls();
        let start = Instant::now();
        let mut client = tls_client(&program, insecure()).await;
        let error = client.read(&mut [0; 64]).await.unwrap_err();
        let no_notify = "peer closed connection without sending TLS close_notify";
        assert!(error.to_string().starts_with(no_notify), "{error}");
        assert!(start.elapsed() >= limit(TLS, "HEADER_TIMEOUT"));
        assert_eq!(
            program.line(),
            "connection failed: read header from client timeout"
        );
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_fails_is_reported() {
    in_time(async {
        let program = start_tls();
        let mut plain = program.connect();
        plain.get("/");
        assert_eq!(
            program.line(),
            "connection failed: received corrupt message of type InvalidContentType"
        );
        let config = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let stream = TcpStream::connect(program.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.unwrap_err();
        assert_eq!(
            program.line(),
            "connection failed: received fatal alert: UnknownCA"
        );
        drop(program.connect());
        assert_eq!(program.line(), "connection failed: tls handshake eof");
    })
    .await;
}

#[tokio::test]
async fn the_program_offers_http1_alone() {
    in_time(async {
        let program = start_tls();
        let mut config = insecure();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = tls_client(&program, config).await;
        let chosen = client.get_ref().1.alpn_protocol();
        assert_eq!(chosen, Some(b"http/1.1".as_slice()));
    })
    .await;
}

/// The version that curl speaks with an `auto` server over TLS that offers these.
async fn curl_speaks(offered: &[&[u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let acceptor = acceptor(offered.iter().map(|version| version.to_vec()).collect());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let io = TokioIo::new(acceptor.0.accept(stream).await.unwrap());
        auto::Builder::new(TokioExecutor::new())
            .serve_connection(io, service_fn(answer))
            .await
    });
    let curl = tokio::process::Command::new("curl")
        .args(["--insecure", "--silent", "--write-out", " %{http_version}", &url])
        .kill_on_drop(true)
        .output();
    String::from_utf8(curl.await.unwrap().stdout).unwrap()
}

#[tokio::test]
async fn curl_speaks_http2_with_auto_if_it_is_offered() {
    in_time(async {
        assert_eq!(curl_speaks(&[b"h2", b"http/1.1"]).await, "answer 2");
        assert_eq!(curl_speaks(&[]).await, "answer 1.1");
    })
    .await;
}

// What hyper does with each kind of connection. The clock of these tests is tokio's own: it jumps
// ahead when every task waits. So "at once" is exactly no time, and "for ever" an hour.

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Answers at once; `/slow` after two seconds, `/upload` when the body is whole, `/bounded` when it
/// is or five seconds have gone by, `/events` without end, `/flood` without end and as fast as the
/// client reads, `/panics` and `/fails` after half of it.
async fn answer(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, BoxError>>, hyper::Error> {
    let body: BoxBody<Bytes, Infallible> = match request.uri().path() {
        "/slow" => {
            sleep(2 * SECOND).await;
            Full::from("slow").boxed()
        }
        "/upload" => {
            request.into_body().collect().await?;
            Full::from("stored").boxed()
        }
        "/bounded" => {
            let body = request.into_body().collect();
            let Ok(stored) = timeout(5 * SECOND, body).await else {
                let body = Empty::new().map_err(|never| match never {});
                let mut response = Response::new(body.boxed());
                *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
                return Ok(response);
            };
            stored?.boxed()
        }
        "/events" => {
            let (mut sender, body) = Channel::new(1);
            tokio::spawn(async move {
                while sender.send_data(Bytes::from("tick")).await.is_ok() {
                    sleep(SECOND).await;
                }
            });
            body.boxed()
        }
        "/flood" => {
            let (mut sender, body) = Channel::new(1);
            let piece = Bytes::from_static(&[b'.'; 4096]);
            tokio::spawn(async move {
                while sender.send_data(piece.clone()).await.is_ok() {}
            });
            body.boxed()
        }
        path @ ("/panics" | "/panics-with-length") => {
            let (mut sender, body) = Channel::new(1);
            tokio::spawn(async move {
                sender.send_data(Bytes::from("half")).await.unwrap();
                panic!("in the producer of a body");
            });
            let body = body.map_err(|never: Infallible| match never {});
            let mut response = Response::new(body.boxed());
            if path.ends_with("length") {
                response.headers_mut().insert(CONTENT_LENGTH, 8.into());
            }
            return Ok(response);
        }
        "/fails" => {
            let (mut sender, body) = Channel::new(1);
            tokio::spawn(async move {
                sender.send_data(Bytes::from("half")).await.unwrap();
                sleep(SECOND).await;
                sender.abort("the producer failed".into());
            });
            return Ok(Response::new(body.boxed()));
        }
        "/echo" => {
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
            let body = Empty::new().map_err(|never| match never {});
            let mut response = Response::new(body.boxed());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(CONNECTION, "upgrade".parse().unwrap());
            response.headers_mut().insert(UPGRADE, "echo".parse().unwrap());
            return Ok(response);
        }
        _ => Full::from("answer").boxed(),
    };
    Ok(Response::new(body.map_err(|never| match never {}).boxed()))
}

type Io = TokioIo<DuplexStream>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Both ends of a connection on which the client has sent `bytes`.
async fn sent(bytes: &[u8]) -> (DuplexStream, Io) {
    let (mut client, server) = tokio::io::duplex(4096);
    client.write_all(bytes).await.unwrap();
    (client, TokioIo::new(server))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// Spawns a watched connection and lets it read what there is.
async fn watched<C>(graceful: &GracefulShutdown, conn: C) -> JoinHandle<C::Output>
where
    C: GracefulConnection + Send + 'static,
    C::Error: Send,
{
    let task = tokio::spawn(graceful.watch(conn));
    sleep(SECOND).await;
    task
}

/// A connection of HTTP/1 on which the client has sent `bytes`, spawned and watched.
async fn http1(
    builder: &http1::Builder,
    bytes: &str,
) -> (GracefulShutdown, DuplexStream, JoinHandle<hyper::Result<()>>) {
    let (client, io) = sent(bytes.as_bytes()).await;
    let graceful = GracefulShutdown::new();
    let conn = builder.serve_connection(io, service_fn(answer));
    let conn = watched(&graceful, conn).await;
    (graceful, client, conn)
}

/// How long the shutdown takes.
async fn shutdown(graceful: GracefulShutdown) -> Duration {
    let start = time::Instant::now();
    graceful.shutdown().await;
    // The clock counts in milliseconds.
    Duration::from_secs(start.elapsed().as_secs())
}

async fn never_ends(graceful: GracefulShutdown) {
    assert!(timeout(HOUR, graceful.shutdown()).await.is_err());
}

async fn read_all(mut client: DuplexStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn http1_on_which_nothing_was_sent_closes_at_once() {
    let (graceful, client, conn) = http1(&http1::Builder::new(), "").await;
    assert_eq!(shutdown(graceful).await, Duration::ZERO);
    conn.await.unwrap().unwrap();
    assert_eq!(read_all(client).await, "");
}

#[tokio::test(start_paused = true)]
async fn http1_between_two_requests_closes_at_once() {
    let (graceful, client, conn) = http1(&http1::Builder::new(), &get("/")).await;
    assert!(!conn.is_finished());
    assert_eq!(shutdown(graceful).await, Duration::ZERO);
    conn.await.unwrap().unwrap();
    let answer = read_all(client).await;
    assert!(answer.ends_with("answer") && !answer.contains("close"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn http1_with_a_handler_running_answers_and_says_close() {
    let (graceful, client, conn) = http1(&http1::Builder::new(), &get("/slow")).await;
    assert_eq!(shutdown(graceful).await, SECOND);
    conn.await.unwrap().unwrap();
    let answer = read_all(client).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("slow"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn http1_answers_the_first_of_two_pipelined_requests() {
    let requests = get("/slow") + &get("/");
    let (graceful, client, conn) = http1(&http1::Builder::new(), &requests).await;
    assert_eq!(shutdown(graceful).await, SECOND);
    conn.await.unwrap().unwrap();
    let answer = read_all(client).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.ends_with("slow"), "{answer}");

    // Without the shutdown both are answered.
    let (_graceful, mut client, _conn) =
        http1(&http1::Builder::new(), &requests).await;
    sleep(SECOND).await;
    let mut answers = [0; 1024];
    let length = client.read(&mut answers).await.unwrap();
    let answers = String::from_utf8_lossy(&answers[..length]);
    assert!(answers.contains("slow") && answers.ends_with("answer"), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn http1_with_half_a_head_and_no_timer_never_ends() {
    let (graceful, _client, _conn) =
        http1(&http1::Builder::new(), "GET / HTTP/1.1\r\n").await;
    never_ends(graceful).await;
}

#[tokio::test(start_paused = true)]
async fn http1_with_half_a_head_ends_with_the_header_timeout() {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(5 * SECOND);
    let (graceful, client, conn) = http1(&builder, "GET / HTTP/1.1\r\n").await;
    // One of the five seconds has gone by when the shutdown begins.
    assert_eq!(shutdown(graceful).await, 4 * SECOND);
    let error = conn.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "read header from client timeout");
    assert_eq!(read_all(client).await, "");
}

#[tokio::test(start_paused = true)]
async fn http1_with_half_of_a_later_head_closes_at_once() {
    let requests = get("/") + "GET / HTTP/1.1\r\n";
    let (graceful, client, conn) = http1(&http1::Builder::new(), &requests).await;
    assert!(!conn.is_finished());
    assert_eq!(shutdown(graceful).await, Duration::ZERO);
    conn.await.unwrap().unwrap();
    assert_eq!(read_all(client).await.matches("HTTP/1.1").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn http1_with_a_client_that_does_not_read_never_ends() {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(5 * SECOND);
    let (graceful, _client, _conn) = http1(&builder, &get("/flood")).await;
    never_ends(graceful).await;
}

/// What a client gets of a body whose producer does not reach its end.
async fn half_a_body(path: &str) -> (String, hyper::Result<()>) {
    let (graceful, client, conn) = http1(&http1::Builder::new(), &get(path)).await;
    shutdown(graceful).await;
    (read_all(client).await, conn.await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_panics_ends_its_body_as_if_it_were_whole() {
    let (answer, result) = half_a_body("/panics").await;
    assert!(answer.ends_with("4\r\nhalf\r\n0\r\n\r\n"), "{answer}");
    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_a_content_length_a_panic_of_the_producer_shows() {
    let (answer, result) = half_a_body("/panics-with-length").await;
    assert!(answer.contains("content-length: 8\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.len() < 8, "{answer}");
    assert!(result.unwrap_err().is_body_write_aborted());
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_aborts_cuts_its_body_off() {
    let (answer, result) = half_a_body("/fails").await;
    assert!(answer.ends_with("4\r\nhalf\r\n"), "{answer}");
    let error = result.unwrap_err();
    let cause = error.source().map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("the producer failed"));
}

#[tokio::test(start_paused = true)]
async fn http1_with_a_stalled_upload_never_ends() {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(5 * SECOND);
    let half = "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    let (graceful, _client, _conn) = http1(&builder, half).await;
    never_ends(graceful).await;
}

#[tokio::test(start_paused = true)]
async fn http1_with_a_stalled_upload_ends_with_a_timeout_in_the_handler() {
    let half = "POST /bounded HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    let (graceful, client, conn) = http1(&http1::Builder::new(), half).await;
    assert_eq!(shutdown(graceful).await, 4 * SECOND);
    conn.await.unwrap().unwrap();
    let answer = read_all(client).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

/// Why the program puts the whole producer into `select!`: while the client does not read, it waits
/// in `send_data`.
#[tokio::test(start_paused = true)]
async fn a_token_ends_a_producer_that_waits_for_a_client_that_does_not_read() {
    for covered in [true, false] {
        let (mut sender, _body) = Channel::<Bytes>::new(1);
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let producer = tokio::spawn(async move {
            if covered {
                let ticks = async {
                    while sender.send_data(Bytes::from("tick")).await.is_ok() {
                        sleep(SECOND).await;
                    }
                };
                tokio::select! {
                    () = ticks => {}
                    () = stop.cancelled() => {}
                }
                return;
            }
            while sender.send_data(Bytes::from("tick")).await.is_ok() {
                tokio::select! {
                    () = sleep(SECOND) => {}
                    () = stop.cancelled() => break,
                }
            }
        });
        sleep(10 * SECOND).await;
        stopping.cancel();
        assert_eq!(timeout(HOUR, producer).await.is_ok(), covered);
    }
}

#[tokio::test(start_paused = true)]
async fn http1_with_an_endless_response_never_ends() {
    let (graceful, mut client, _conn) =
        http1(&http1::Builder::new(), &get("/events")).await;
    let reader =
        tokio::spawn(
            async move { while client.read(&mut [0; 64]).await.unwrap() > 0 {} },
        );
    never_ends(graceful).await;
    assert!(!reader.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_sent_but_not_read_is_dropped() {
    for bytes in [get("/"), get("/slow")] {
        let (client, io) = sent(bytes.as_bytes()).await;
        let graceful = GracefulShutdown::new();
        let conn = http1::Builder::new().serve_connection(io, service_fn(answer));
        // Watched, and not yet polled when the signal comes: as a connection that was accepted at
        // that very moment.
        let conn = tokio::spawn(graceful.watch(conn));
        assert_eq!(shutdown(graceful).await, Duration::ZERO);
        conn.await.unwrap().unwrap();
        assert_eq!(read_all(client).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_watched_after_the_signal_is_dropped() {
    let (client, io) = sent(get("/").as_bytes()).await;
    let graceful = GracefulShutdown::new();
    let watcher = graceful.watcher();
    let shutdown = tokio::spawn(graceful.shutdown());
    sleep(SECOND).await;
    assert!(!shutdown.is_finished(), "a watcher holds the shutdown");
    let conn = http1::Builder::new().serve_connection(io, service_fn(answer));
    watcher.watch(conn).await.unwrap();
    shutdown.await.unwrap();
    assert_eq!(read_all(client).await, "");
}

#[tokio::test(start_paused = true)]
async fn http1_half_closed_by_its_client_is_answered_with_half_close_only() {
    for half_close in [false, true] {
        let (mut client, io) = sent(get("/slow").as_bytes()).await;
        client.shutdown().await.unwrap();
        let graceful = GracefulShutdown::new();
        let conn = http1::Builder::new()
            .half_close(half_close)
            .serve_connection(io, service_fn(answer));
        let conn = watched(&graceful, conn).await;
        assert_eq!(conn.is_finished(), !half_close);
        let took = shutdown(graceful).await;
        let result = conn.await.unwrap();
        let answer = read_all(client).await;
        if half_close {
            assert_eq!(took, SECOND);
            result.unwrap();
            assert!(answer.ends_with("slow"), "{answer}");
        } else {
            let error = result.unwrap_err();
            assert_eq!(
                error.to_string(),
                "connection closed before message completed"
            );
            assert!(error.is_incomplete_message());
            assert_eq!(answer, "");
        }
    }
}

/// The kind of an `std::io::Error` in a box.
fn kind(error: Box<dyn Error + Send + Sync>) -> io::ErrorKind {
    error.downcast_ref::<io::Error>().expect("an io::Error").kind()
}

#[tokio::test(start_paused = true)]
async fn auto_without_a_version_closes_with_an_error() {
    for begin in [b"".as_slice(), b"P", &PREFACE[..20]] {
        let builder = auto::Builder::new(TokioExecutor::new());
        let (client, io) = sent(begin).await;
        let graceful = GracefulShutdown::new();
        let conn = builder.serve_connection_with_upgrades(io, service_fn(answer));
        let conn = watched(&graceful, conn.into_owned()).await;
        assert_eq!(shutdown(graceful).await, Duration::ZERO);
        let error = conn.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "Cancelled");
        assert_eq!(kind(error), io::ErrorKind::Interrupted);
        assert_eq!(read_all(client).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn auto_without_a_version_waits_for_ever() {
    for begin in [b"".as_slice(), b"P", &PREFACE[..20]] {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(5 * SECOND);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(5 * SECOND);
        let (_client, io) = sent(begin).await;
        let conn = builder.serve_connection_with_upgrades(io, service_fn(answer));
        assert!(timeout(HOUR, conn).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn auto_between_two_requests_closes_without_error() {
    let builder = auto::Builder::new(TokioExecutor::new());
    let (client, io) = sent(get("/").as_bytes()).await;
    let graceful = GracefulShutdown::new();
    let conn = builder.serve_connection_with_upgrades(io, service_fn(answer));
    let conn = watched(&graceful, conn.into_owned()).await;
    assert_eq!(shutdown(graceful).await, Duration::ZERO);
    conn.await.unwrap().unwrap();
    assert!(read_all(client).await.ends_with("answer"));
}

/// A client of HTTP/2; the task that drives it runs.
async fn http2_client<S>(stream: S) -> SendRequest<Empty<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (sender, conn) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(conn);
    sender
}

fn http2_get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://x{path}")).body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn http2_completes_its_streams_and_takes_no_more() {
    let (client, io) = sent(b"").await;
    let graceful = GracefulShutdown::new();
    let conn = http2::Builder::new(TokioExecutor::new())
        .serve_connection(io, service_fn(answer));
    tokio::spawn(graceful.watch(conn));
    let mut sender = http2_client(client).await;
    let slow = tokio::spawn(sender.send_request(http2_get("/slow")));
    sleep(SECOND).await;

    let start = time::Instant::now();
    let shutdown = tokio::spawn(graceful.shutdown());
    sleep(SECOND / 2).await;
    let error = sender.send_request(http2_get("/")).await.unwrap_err();
    assert_eq!(error.to_string(), "operation was canceled");
    assert!(error.is_canceled());

    let response = slow.await.unwrap().unwrap();
    assert_eq!(response.headers().get(CONNECTION), None);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "slow");
    shutdown.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn http2_with_a_stream_that_its_client_does_not_read_never_ends() {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(5 * SECOND)
        .keep_alive_timeout(3 * SECOND);
    let (client, io) = sent(b"").await;
    let graceful = GracefulShutdown::new();
    let conn = builder.serve_connection(io, service_fn(answer));
    tokio::spawn(graceful.watch(conn));
    let mut sender = http2_client(client).await;
    // Its pings are answered all the time.
    let _unread = sender.send_request(http2_get("/flood")).await.unwrap();
    never_ends(graceful).await;
}

#[tokio::test(start_paused = true)]
async fn http2_without_streams_closes_at_once() {
    let (client, io) = sent(b"").await;
    let graceful = GracefulShutdown::new();
    let conn = http2::Builder::new(TokioExecutor::new())
        .serve_connection(io, service_fn(answer));
    tokio::spawn(graceful.watch(conn));
    let sender = http2_client(client).await;
    sleep(SECOND).await;
    assert_eq!(shutdown(graceful).await, Duration::ZERO);
    assert!(sender.is_closed());
}

/// What a client of HTTP/2 sends first: the preface and its settings, none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// And then a request for `http://x/events`, on the first stream.
#[cfg(target_os = "linux")]
const EVENTS: &[u8] = b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x04\x07/events\x41\x01x";

/// A connection of HTTP/2 on which the client has sent `bytes`, and answers nothing.
async fn silent_http2(
    builder: http2::Builder<TokioExecutor>,
    bytes: &[u8],
) -> (GracefulShutdown, DuplexStream, JoinHandle<hyper::Result<()>>) {
    let (client, io) = sent(bytes).await;
    let graceful = GracefulShutdown::new();
    let conn = builder.serve_connection(io, service_fn(answer));
    let conn = watched(&graceful, conn).await;
    (graceful, client, conn)
}

#[tokio::test(start_paused = true)]
async fn http2_with_a_peer_that_answers_no_ping_never_ends() {
    let builder = http2::Builder::new(TokioExecutor::new());
    let (graceful, mut client, _conn) = silent_http2(builder, PREFACE).await;
    never_ends(graceful).await;
    // What it sent in the end: a GOAWAY that forbids no stream yet, and a PING.
    let mut received = [0; 1024];
    let length = client.read(&mut received).await.unwrap();
    let mut frames = Vec::new();
    let mut rest = &received[..length];
    while let [a, b, c, kind, ..] = *rest {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        frames.push((kind, &rest[9..9 + length]));
        rest = &rest[9 + length..];
    }
    let [.., (goaway, last_stream), (ping, _)] = frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!((goaway, ping), (7, 6));
    assert_eq!(last_stream[..4], [0x7f, 0xff, 0xff, 0xff]);
}

#[tokio::test(start_paused = true)]
async fn http2_with_a_peer_that_answers_no_ping_ends_by_keep_alive() {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(5 * SECOND)
        .keep_alive_timeout(3 * SECOND);
    let (graceful, _client, conn) = silent_http2(builder, PREFACE).await;
    // Eight seconds from the last frame of the client; one has gone by.
    assert_eq!(shutdown(graceful).await, 7 * SECOND);
    let error = conn.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "http2 error");
    let cause = error.source().map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("keep-alive timed out"));
    assert!(error.is_timeout());
}

#[tokio::test(start_paused = true)]
async fn http2_without_a_preface_never_ends() {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(5 * SECOND)
        .keep_alive_timeout(3 * SECOND);
    let (graceful, _client, _conn) = silent_http2(builder, b"").await;
    never_ends(graceful).await;

    // `auto` with one version does not look for the preface, and is no different.
    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    let (_client, io) = sent(b"").await;
    let graceful = GracefulShutdown::new();
    let conn = builder.serve_connection(io, service_fn(answer));
    let _conn = watched(&graceful, conn.into_owned()).await;
    never_ends(graceful).await;
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_is_not_waited_for() {
    let builder = auto::Builder::new(TokioExecutor::new());
    let upgrade =
        b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let (mut client, io) = sent(upgrade).await;
    let graceful = GracefulShutdown::new();
    let conn = builder.serve_connection_with_upgrades(io, service_fn(answer));
    let conn = watched(&graceful, conn.into_owned()).await;
    conn.await.unwrap().unwrap();
    let count = page("server/graceful-shutdown-connections")
        .number("count() of GracefulShutdown is {}");
    assert_eq!(graceful.count() as u64, count);
    assert_eq!(shutdown(graceful).await, Duration::ZERO);

    let mut answer = [0; 1024];
    let length = client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    sleep(HOUR).await;
    client.write_all(b"still here").await.unwrap();
    let mut echoed = [0; 10];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"still here");
}

/// The type and version of a first record: a TLS handshake that has begun.
const TLS_BEGIN: &[u8] = &[22, 3, 1];

/// A server's side of TLS that offers these versions, and its certificate.
fn acceptor(alpn_protocols: Vec<Vec<u8>>) -> (TlsAcceptor, CertificateDer<'static>) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = key.cert.der().clone();
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    server.alpn_protocols = alpn_protocols;
    (Arc::new(server).into(), cert)
}

/// A server's side of TLS, and a client's that trusts it.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let (acceptor, cert) = acceptor(Vec::new());
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots);
    (acceptor, Arc::new(client.with_no_client_auth()).into())
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_is_not_waited_for() {
    let (_client, io) = sent(TLS_BEGIN).await;
    let graceful = GracefulShutdown::new();
    let handshake = tokio::spawn(tls().0.accept(io.into_inner()));
    sleep(HOUR).await;
    assert!(!handshake.is_finished(), "nothing bounds it");
    assert_eq!(graceful.count(), 0);
    assert_eq!(shutdown(graceful).await, Duration::ZERO);
    assert!(!handshake.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_waits_for_a_tls_handshake_and_a_timeout_bounds_it() {
    let (_client, io) = sent(TLS_BEGIN).await;
    let graceful = GracefulShutdown::new();
    let watcher = graceful.watcher();
    let handshake = tokio::spawn(async move {
        let _watcher = watcher;
        timeout(5 * SECOND, tls().0.accept(io.into_inner())).await.is_err()
    });
    sleep(SECOND).await;
    assert_eq!(graceful.count(), 1);
    assert_eq!(shutdown(graceful).await, 4 * SECOND);
    assert!(handshake.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_that_ends_after_the_signal_gets_no_answer() {
    let (acceptor, connector) = tls();
    let (client, io) = sent(b"").await;
    let graceful = GracefulShutdown::new();
    let watcher = graceful.watcher();
    let conn = tokio::spawn(async move {
        let stream = acceptor.accept(io.into_inner()).await.unwrap();
        let conn = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        watcher.watch(conn).await
    });
    let shutdown = tokio::spawn(graceful.shutdown());
    sleep(SECOND).await;
    assert!(!shutdown.is_finished());
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = connector.connect(name, client).await.unwrap();
    // Sent or not: the server may have closed by now.
    client.write_all(get("/").as_bytes()).await.ok();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "");
    conn.await.unwrap().unwrap();
    shutdown.await.unwrap();
}

/// The shutdown of a server whose handler spawns a task that takes an hour and holds `guard`: how
/// long it takes, and whether the task is done then.
async fn with_a_spawned_task<G: Clone + Send + 'static>(
    graceful: GracefulShutdown,
    guard: G,
) -> (Duration, bool) {
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    let service = service_fn(move |request| {
        let (done, guard) = (done.clone(), guard.clone());
        tokio::spawn(async move {
            sleep(HOUR).await;
            done.store(true, Ordering::Relaxed);
            drop(guard);
        });
        answer(request)
    });
    let (client, io) = sent(get("/").as_bytes()).await;
    let conn = http1::Builder::new().serve_connection(io, service);
    let conn = watched(&graceful, conn).await;
    let took = shutdown(graceful).await;
    conn.await.unwrap().unwrap();
    assert!(read_all(client).await.ends_with("answer"));
    (took, is_done.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_handler_spawned_is_not_waited_for() {
    let (took, done) = with_a_spawned_task(GracefulShutdown::new(), ()).await;
    assert_eq!((took, done), (Duration::ZERO, false));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_holds_a_watcher_is_waited_for() {
    let graceful = GracefulShutdown::new();
    let guard = Arc::new(graceful.watcher());
    let (took, done) = with_a_spawned_task(graceful, guard).await;
    assert_eq!((took, done), (HOUR - SECOND, true));
}

#[tokio::test]
async fn a_connection_that_nobody_accepted_is_reset() {
    in_time(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        drop(listener);
        let error = client.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    })
    .await;
}
