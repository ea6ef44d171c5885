//! What src/server/zero-downtime-tls.md promises.

use std::error::Error;
use std::fs;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{self, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::graceful_shutdown_connections::insecure;
use super::limits::{
    END_HEADERS_AND_STREAM, GOAWAY, HEADERS, PREFACE, SETTINGS, code, end, frame,
    get, read_frame,
};
use harness::{LIMIT, Program, page};
use program::Stage;

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/zero_downtime_tls.rs"]
mod program;

const HTTP1: &[&[u8]] = &[b"http/1.1"];
const HTTP2: &[&[u8]] = &[b"h2"];
const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A client that offers these versions, after its TLS handshake.
async fn handshake<T>(stream: T, versions: &[&[u8]]) -> io::Result<TlsStream<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut config = insecure();
    config.alpn_protocols = versions.iter().map(|version| version.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The head of an HTTP/1 response and its body, which the program sends together.
async fn response(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"done\n")
        && !bytes.ends_with(b"content-length: 0\r\n\r\n")
    {
        let count = client.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(count > 0, "the connection ends after {text:?}");
        // The last header is the date.
        if text.contains("content-length: 0\r\n") && text.ends_with("\r\n\r\n") {
            break;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn says_close(response: &str) -> bool {
    response.contains("connection: close\r\n")
}

// HTTP/2, frame by frame.

const DATA: u8 = 0;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: usize = 1;
const STREAM_MAX: u32 = 0x7fff_ffff;

/// What a client has received on an HTTP/2 connection.
#[derive(Debug, PartialEq)]
enum Received {
    /// The last id.
    Goaway(u32),
    Ping(Vec<u8>),
    /// The headers of a response, still compressed. A body follows.
    Headers(u32, Vec<u8>),
    /// The last frame of a response, and what is in it.
    Done(u32, Vec<u8>),
    /// TLS and TCP ended as they should.
    Close,
}
use Received::{Close, Done, Goaway, Headers, Ping};

/// A client that writes each frame itself.
struct Http2<T>(TlsStream<T>);

impl<T: AsyncRead + AsyncWrite + Unpin> Http2<T> {
    /// After the preface, with these settings.
    async fn new(mut stream: TlsStream<T>, settings: &[u8]) -> Self {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        stream.write_all(PREFACE.as_bytes()).await.unwrap();
        let mut client = Http2(stream);
        client.send(SETTINGS, 0, 0, settings).await;
        client
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn get(&mut self, stream: u32, path: &str) {
        let mut headers = b"\x82\x87\x04".to_vec();
        headers.push(path.len() as u8);
        headers.extend(path.as_bytes());
        headers.extend(b"\x41\x01x");
        self.send(HEADERS, END_HEADERS_AND_STREAM, stream, &headers).await;
    }

    /// The next thing that matters to a test: neither settings nor windows.
    async fn next(&mut self) -> Received {
        loop {
            // Read by hand, for its flags.
            let mut head = [0; 9];
            match self.0.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.to_string() == "early eof" => return Close,
                Err(error) => panic!("{error}"),
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.unwrap();
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            let ended = usize::from(head[4]) & END_STREAM != 0;
            match head[3] {
                GOAWAY => return Goaway(code(&payload)),
                PING if head[4] & ACK == 0 => return Ping(payload),
                HEADERS if !ended => return Headers(stream, payload),
                HEADERS | DATA if ended => return Done(stream, payload),
                _ => {}
            }
        }
    }

    /// Reads a whole response: its compressed headers.
    async fn response(&mut self, stream: u32) -> Vec<u8> {
        let Headers(id, headers) = self.next().await else { panic!("no response") };
        assert_eq!(id, stream);
        assert_eq!(self.next().await, Done(stream, b"done\n".to_vec()));
        headers
    }

    /// Reads the headers of a response without a body, and says of which stream.
    async fn head(&mut self) -> (u32, Vec<u8>) {
        match self.next().await {
            Done(stream, headers) => (stream, headers),
            other => panic!("{other:?}"),
        }
    }

    /// Reads the first GOAWAY, which forbids no stream yet, and the PING after it.
    async fn first_goaway(&mut self) -> Vec<u8> {
        assert_eq!(self.next().await, Goaway(STREAM_MAX));
        let Ping(payload) = self.next().await else { panic!("no PING") };
        payload
    }

    async fn pong(&mut self, payload: &[u8]) {
        self.send(PING, ACK, 0, payload).await;
    }
}

// On an in-memory connection, with a clock that stands still while there is work to do.

/// A test ends, or fails: where nothing happens, an hour passes at once.
async fn in_an_hour<T>(test: impl Future<Output = T>) -> T {
    timeout(3600 * SECOND, test).await.expect("the test ends")
}

type Conn = JoinHandle<Result<(), String>>;

/// A connection to the program before its TLS handshake, and how it ends.
fn connect(stage: &watch::Sender<Stage>) -> (DuplexStream, Conn) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let conn =
        program::serve(server, program::tls_acceptor().unwrap(), stage.subscribe());
    let conn = async { conn.await.map_err(|error| error.to_string()) };
    (client, tokio::spawn(conn))
}

async fn http1(stage: &watch::Sender<Stage>) -> (TlsStream<DuplexStream>, Conn) {
    let (client, conn) = connect(stage);
    (handshake(client, HTTP1).await.unwrap(), conn)
}

async fn http2(stage: &watch::Sender<Stage>) -> (Http2<DuplexStream>, Conn) {
    let (client, conn) = connect(stage);
    (Http2::new(handshake(client, HTTP2).await.unwrap(), &[]).await, conn)
}

fn serving() -> watch::Sender<Stage> {
    watch::Sender::new(Stage::Serving)
}

#[tokio::test(start_paused = true)]
async fn http1_responses_say_close_from_the_signal_on() {
    in_an_hour(async {
        let stage = serving();
        let (mut client, _conn) = http1(&stage).await;
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(!says_close(&response(&mut client).await));
        // One is in progress at the signal.
        client.write_all(GET.replace("/ ", "/slow ").as_bytes()).await.unwrap();
        sleep(SECOND).await;
        stage.send_replace(Stage::Leaving);
        assert!(says_close(&response(&mut client).await));
        assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 0);
        // New clients are told as well, also before the listener closes.
        let (mut client, _conn) = http1(&stage).await;
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(says_close(&response(&mut client).await));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_without_alpn_is_served_over_http1() {
    in_an_hour(async {
        let stage = serving();
        let (client, _conn) = connect(&stage);
        let mut client = handshake(client, &[]).await.unwrap();
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(response(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn http2_responses_never_say_close() {
    in_an_hour(async {
        let stage = serving();
        let (mut client, _conn) = http2(&stage).await;
        client.get(1, "/").await;
        let before = client.response(1).await.len();
        stage.send_replace(Stage::Leaving);
        client.get(3, "/").await;
        // The second time, most headers are references: more of them would not be shorter.
        let headers = client.response(3).await;
        assert!(headers.len() < before, "{headers:?}");
        assert!(!headers.windows(5).any(|word| word == b"close"), "{headers:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn goaway_comes_when_the_listener_closes_and_not_before() {
    in_an_hour(async {
        let stage = serving();
        let (mut client, conn) = http2(&stage).await;
        client.get(1, "/").await;
        client.response(1).await;
        stage.send_replace(Stage::Leaving);
        // Up to the response, nothing else comes.
        client.get(3, "/").await;
        client.response(3).await;
        stage.send_replace(Stage::Closed);
        let ping = client.first_goaway().await;
        client.pong(&ping).await;
        assert_eq!(client.next().await, Goaway(3));
        assert_eq!(client.next().await, Close);
        drop(client);
        assert_eq!(end(conn).await, (0, Ok(())));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_opened_between_the_two_goaways_is_answered() {
    in_an_hour(async {
        let stage = serving();
        let (mut client, _conn) = http2(&stage).await;
        client.get(1, "/slow").await;
        stage.send_replace(Stage::Closed);
        let ping = client.first_goaway().await;
        client.get(3, "/").await;
        client.response(3).await;
        client.get(5, "/slow").await;
        // Those opened later are above the last id: not answered, and not begun.
        let mut late = frame(PING, ACK, 0, &ping);
        let headers = b"\x82\x87\x84\x41\x01x";
        late.extend(frame(HEADERS, END_HEADERS_AND_STREAM, 7, headers));
        client.0.write_all(&late).await.unwrap();
        client.0.flush().await.unwrap();
        assert_eq!(client.next().await, Goaway(5));
        client.response(1).await;
        client.response(5).await;
        assert_eq!(client.next().await, Close);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_has_sent_nothing_yet_is_answered() {
    in_an_hour(async {
        // It is in the middle of its handshake when the listener closes, or has just ended it. The
        // version is known by then.
        let stage = serving();
        for stage_before_handshake in [Stage::Closed, Stage::Leaving] {
            stage.send_replace(stage_before_handshake);
            let (client, conn) = connect(&stage);
            sleep(SECOND).await;
            let client = handshake(client, HTTP2).await.unwrap();
            stage.send_replace(Stage::Closed);
            sleep(SECOND).await;
            let mut client = Http2::new(client, &[]).await;
            client.get(1, "/").await;
            let ping = client.first_goaway().await;
            client.response(1).await;
            client.pong(&ping).await;
            assert_eq!(client.next().await, Goaway(1));
            assert_eq!(client.next().await, Close);
            drop(client);
            assert_eq!(end(conn).await.1, Ok(()));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http1_client_that_has_not_asked_yet_is_waited_for() {
    in_an_hour(async {
        page("server/zero-downtime-tls")
            .says("for a second from the close of the listener");
        let linger = SECOND;
        let stage = serving();
        for stage_before_handshake in [Stage::Closed, Stage::Leaving] {
            stage.send_replace(stage_before_handshake);
            let (mut clients, mut conns) = (Vec::new(), Vec::new());
            let pending = [connect(&stage), connect(&stage)];
            // The pause begins when the handshake has ended, if that is later.
            sleep(SECOND).await;
            for (client, conn) in pending {
                clients.push(handshake(client, HTTP1).await.unwrap());
                conns.push(conn);
            }
            stage.send_replace(Stage::Closed);
            let [asks, silent] = &mut clients[..] else { unreachable!() };
            sleep(linger - MILLISECOND).await;
            asks.write_all(GET.as_bytes()).await.unwrap();
            assert!(says_close(&response(asks).await));
            assert_eq!(asks.read(&mut [0; 64]).await.unwrap(), 0);
            assert_eq!(silent.read(&mut [0; 64]).await.unwrap(), 0);
            drop(clients);
            for conn in conns {
                assert_eq!(end(conn).await.1, Ok(()));
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_an_early_answer_the_server_reads_on_until_the_client_is_gone() {
    in_an_hour(async {
        let closing = Duration::from_secs(
            page("server/zero-downtime-tls")
                .number("until the client has closed, for {} seconds at most"),
        );
        for leaves in [true, false] {
            let stage = watch::Sender::new(Stage::Leaving);
            let (mut client, conn) = http1(&stage).await;
            client.write_all(UPLOAD.as_bytes()).await.unwrap();
            assert!(says_close(&response(&mut client).await));
            // The server has closed its side, and still takes what the client sends.
            assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 0);
            let start = time::Instant::now();
            while start.elapsed() < closing - MILLISECOND {
                client.write_all(&[b'.'; 10_000]).await.expect("the server reads on");
                client.flush().await.unwrap();
                sleep(MILLISECOND).await;
            }
            assert!(!conn.is_finished());
            if leaves {
                drop(client);
                conn.await.unwrap().unwrap();
            } else {
                conn.await.unwrap().unwrap();
                assert!(start.elapsed() >= closing);
            }
            assert!(start.elapsed() <= closing + MILLISECOND);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn over_http2_too_the_server_reads_on() {
    in_an_hour(async {
        let stage = serving();
        let (mut client, conn) = http2(&stage).await;
        let headers = b"\x83\x87\x84\x41\x01x";
        client.send(HEADERS, 4, 1, headers).await;
        client.response(1).await;
        stage.send_replace(Stage::Closed);
        let ping = client.first_goaway().await;
        client.pong(&ping).await;
        assert_eq!(client.next().await, Goaway(1));
        assert_eq!(client.next().await, Close);
        for _ in 0..1000 {
            client.send(DATA, 0, 1, &[b'.'; 1000]).await;
            sleep(MILLISECOND).await;
        }
        assert!(!conn.is_finished());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silent_clients_are_ended_by_limits() {
    in_an_hour(async {
        let head = Duration::from_secs(
            page("server/zero-downtime-tls")
                .number("A silent HTTP/1.1 client is closed after {} seconds"),
        );
        let handshake_limit = Duration::from_secs(
            page("server/zero-downtime-tls")
                .number("A TLS handshake may take {} seconds"),
        );
        let stage = serving();
        // In the handshake.
        let (_client, conn) = connect(&stage);
        let (seconds, result) = end(conn).await;
        assert_eq!(seconds, handshake_limit.as_secs());
        assert_eq!(result.unwrap_err(), "deadline has elapsed");
        // After it: closed as TLS should be.
        let (mut client, conn) = http1(&stage).await;
        let start = time::Instant::now();
        assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 0);
        assert_eq!(start.elapsed().as_secs(), head.as_secs());
        drop(client);
        let error = conn.await.unwrap().unwrap_err();
        assert_eq!(error, "read header from client timeout");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_answers_no_ping_is_ended_before_the_deadline() {
    in_an_hour(async {
        for closed in [false, true] {
            let stage = serving();
            let (mut client, conn) = http2(&stage).await;
            client.get(1, "/").await;
            client.response(1).await;
            let start = time::Instant::now();
            if closed {
                stage.send_replace(Stage::Closed);
                client.first_goaway().await;
            }
            assert_eq!(conn.await.unwrap().unwrap_err(), "http2 error");
            let took = start.elapsed();
            assert!(
                took >= Duration::from_secs(
                    page("server/zero-downtime-tls")
                        .number("{} seconds after its last request if it has been silent since")
                )
            );
            assert!(took < program::DRAIN_DEADLINE, "{took:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_client_of_hyper_tells_what_is_safe() {
    in_an_hour(async {
        let (client, mut server) = tokio::io::duplex(64 * 1024);
        let (mut sender, conn) = hyper::client::conn::http2::handshake(
            TokioExecutor::new(),
            TokioIo::new(client),
        )
        .await
        .unwrap();
        tokio::spawn(conn);
        let request = tokio::spawn(sender.try_send_request(get("/")));
        server.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        while read_frame(&mut server).await.unwrap().0 != HEADERS {}
        // A GOAWAY without an error, whose last id is 0.
        let frames =
            [frame(SETTINGS, 0, 0, &[]), frame(GOAWAY, 0, 0, &[0; 8])].concat();
        server.write_all(&frames).await.unwrap();
        // It was written, and is above the last id.
        let mut error = request.await.unwrap().unwrap_err();
        assert!(error.take_message().is_none());
        let error = error.into_error();
        let cause = error.source().unwrap();
        assert_eq!(
            format!("{error}: {cause}"),
            "http2 error: connection error received: not a result of an error"
        );
        // This one is not written.
        let mut error = sender.try_send_request(get("/")).await.unwrap_err();
        assert_eq!(error.take_message().unwrap().uri(), "http://x/");
        assert_eq!(error.error().to_string(), "operation was canceled");
    })
    .await;
}

// On the running program. Its times are such that these tests neither wait long nor race a clock.

const STOPPING: &str = "stopping: not ready, still accepting";
const CLOSED: &str = "stopping: not accepting";
const IN_TIME: &str = "stopped: every connection has ended in time";
const CUT_OFF: &str = "stopped: some connections were cut off at the deadline";
const BY_FORCE: &str = "stopped by force: some task does not end";

static VARIANT: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = harness::root().join("snippets/server/zero_downtime_tls.rs");
    let mut program = fs::read_to_string(program).unwrap();
    for (name, time, variant) in [
        ("LAME_DUCK", "secs(3)", "secs(1)"),
        ("UNDER_WAY", "millis(250)", "millis(500)"),
        ("LINGER", "secs(1)", "secs(15)"),
        ("HANDSHAKE", "secs(5)", "secs(15)"),
        ("HEAD", "secs(5)", "secs(15)"),
        ("PING_AFTER", "secs(5)", "secs(15)"),
    ] {
        let value = |time| format!("{name}: Duration = Duration::from_{time};");
        assert!(program.contains(&value(time)), "{name} is {time}");
        program = program.replace(&value(time), &value(variant));
    }
    let deadline = "pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);";
    assert!(program.contains(deadline), "the drain deadline is 10 s");
    program = program.replace(deadline, "").replace("DRAIN_DEADLINE", "deadline()");
    program += "fn deadline() -> Duration {
        Duration::from_millis(env::var(\"DEADLINE\").unwrap().parse().unwrap())
    }";
    harness::block::variant("zero_downtime_tls", &program)
});

fn start(deadline: Duration) -> Program {
    let mut command = Command::new(&*VARIANT);
    command.env("DEADLINE", deadline.as_millis().to_string());
    Program::listen(command)
}

/// A test on real sockets ends, or fails.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, test).await.expect("the test ends")
}

async fn tcp(program: &Program) -> TcpStream {
    TcpStream::connect(program.address).await.unwrap()
}

/// Waits for a line of the program while the clients of this test go on.
fn line(program: &Program) -> String {
    tokio::task::block_in_place(|| program.line())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_of_a_stop() {
    let mut program = start(LIMIT);
    in_time(async {
        let stream = handshake(tcp(&program).await, HTTP2).await.unwrap();
        let mut http2 = Http2::new(stream, &[]).await;
        http2.get(1, "/ready").await;
        // In HPACK, 0x88 is the status 200, and 0x48 begins another one.
        let (id, headers) = http2.head().await;
        assert_eq!((id, headers[0]), (1, 0x88));
        let mut asks = handshake(tcp(&program).await, HTTP1).await.unwrap();
        // These have connected when the listener closes.
        let silent = handshake(tcp(&program).await, HTTP1).await.unwrap();
        let in_handshake = [tcp(&program).await, tcp(&program).await];
        program.signal("TERM");
        assert_eq!(line(&program), STOPPING);
        // Still accepting, and not ready.
        let new = tcp(&program).await;
        http2.get(3, "/ready").await;
        let (id, headers) = http2.head().await;
        assert_eq!((id, headers[0]), (3, 0x48));
        asks.write_all(GET.replace("/ ", "/ready ").as_bytes()).await.unwrap();
        let answer = response(&mut asks).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(says_close(&answer));
        let ping = http2.first_goaway().await;
        assert_eq!(line(&program), CLOSED);
        let refused = TcpStream::connect(program.address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let [first, second] = in_handshake;
        let handshakes = [first, new].map(|stream| handshake(stream, HTTP1));
        let mut clients = vec![silent];
        for handshake in handshakes {
            clients.push(handshake.await.expect("the handshake ends"));
        }
        for client in &mut clients {
            client.write_all(GET.as_bytes()).await.unwrap();
            assert!(says_close(&response(client).await));
            assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 0);
        }
        let stream = handshake(second, HTTP2).await.expect("the handshake ends");
        let mut late = Http2::new(stream, &[]).await;
        late.get(1, "/").await;
        let late_ping = late.first_goaway().await;
        late.response(1).await;
        late.pong(&late_ping).await;
        http2.pong(&ping).await;
        for (client, last) in [(&mut late, 1), (&mut http2, 3)] {
            assert_eq!(client.next().await, Goaway(last));
            assert_eq!(client.next().await, Close);
        }
        drop((late, http2, asks, clients));
        let (status, printed) = tokio::task::block_in_place(|| program.wait());
        assert_eq!(printed, [IN_TIME]);
        assert_eq!(status.code(), Some(0));
    })
    .await;
}

/// Stops the program while a handshake stalls, a client does not read, and a stream does not end.
async fn stopped_at_the_deadline(path: &str) -> Vec<String> {
    let mut program = start(SECOND / 2);
    in_time(async {
        let _stalled = tcp(&program).await;
        let stream = handshake(tcp(&program).await, HTTP2).await.unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE is 0, so no body can be sent.
        let mut unread = Http2::new(stream, &[0, 4, 0, 0, 0, 0]).await;
        unread.get(1, "/").await;
        assert!(matches!(unread.next().await, Headers(1, _)));
        unread.get(3, path).await;
        unread.get(5, "/ready").await;
        // The one before has begun.
        assert_eq!(unread.head().await.0, 5);
        program.signal("TERM");
        let (status, printed) = tokio::task::block_in_place(|| program.wait());
        assert_eq!(status.code(), Some(1));
        printed
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_holds() {
    let printed = stopped_at_the_deadline("/slow").await;
    assert_eq!(printed, [STOPPING, CLOSED, CUT_OFF]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_blocks_does_not_keep_the_process() {
    let printed = stopped_at_the_deadline("/stuck").await;
    assert_eq!(printed, [STOPPING, CLOSED, CUT_OFF, BY_FORCE]);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::start("zero-downtime-tls");
    program.signal("TERM");
    assert_eq!(program.line(), STOPPING);
    program.signal("INT");
    let (status, printed) = program.wait();
    assert_eq!(printed, ["stopped: told twice"]);
    assert_eq!(status.code(), Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_in_the_backlog_are_served() {
    let program = start(LIMIT);
    in_time(async {
        program.signal("TERM");
        assert_eq!(line(&program), STOPPING);
        // While the process is stopped, its system accepts, and the lame duck runs out. There are more
        // clients than tokio accepts in one go, so the end of the lame duck comes first.
        program.signal("STOP");
        let mut clients = Vec::new();
        for _ in 0..120 {
            clients.push(tcp(&program).await);
        }
        sleep(SECOND + SECOND / 10).await;
        program.signal("CONT");
        assert_eq!(line(&program), CLOSED);
        let last = clients.pop().unwrap();
        for client in clients {
            let read = client.try_read(&mut [0; 64]).map_err(|error| error.kind());
            assert_eq!(read, Err(io::ErrorKind::WouldBlock), "nobody is reset");
        }
        let mut last = handshake(last, HTTP1).await.expect("nobody is reset");
        last.write_all(GET.as_bytes()).await.unwrap();
        assert!(says_close(&response(&mut last).await));
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_filter_drops_new_handshakes_alone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let before = std::net::TcpStream::connect(address).unwrap();
    program::drop_new_handshakes(&listener);
    let time = Duration::from_millis(100);
    let error = std::net::TcpStream::connect_timeout(&address, time).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let (_, peer) = in_time(listener.accept()).await.unwrap();
    assert_eq!(peer, before.local_addr().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn before_the_listener_closes_new_handshakes_are_dropped() {
    let program = start(LIMIT);
    let start = Instant::now();
    program.signal("TERM");
    let error = loop {
        let time = Duration::from_millis(100);
        match std::net::TcpStream::connect_timeout(&program.address, time) {
            Ok(_) => assert!(start.elapsed() < LIMIT, "it accepts for ever"),
            Err(error) => break error,
        }
        // More would fill the backlog, which drops handshakes too.
        thread::sleep(5 * MILLISECOND);
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "dropped, and not refused");
    assert!(start.elapsed() >= SECOND, "the lame duck accepts");
}
