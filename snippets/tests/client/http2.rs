//! What src/client/http2.md promises.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use harness::{Program, Prose, page};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::server::limits::{
    END_HEADERS_AND_STREAM, GOAWAY, HEADERS, PREFACE, REFUSED_STREAM, RST_STREAM,
    SETTINGS, code, frame, read_frame,
};

/// The program itself, for tests with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/http2.rs"]
mod program;

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

async fn listen() -> (TcpListener, Uri) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    (listener, format!("http://{address}/").parse().unwrap())
}

/// What a server has seen.
#[derive(Clone, Default)]
struct Seen {
    connections: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Serves HTTP/2 with at most so many requests at once on a connection; each takes 10 ms.
async fn serve(most: u32) -> (Uri, Seen) {
    let (listener, url) = listen().await;
    let seen = Seen::default();
    let counters = seen.clone();
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0;
            counters.connections.fetch_add(1, SeqCst);
            let counters = counters.clone();
            let service = service_fn(move |_| {
                let counters = counters.clone();
                async move {
                    let now = 1 + counters.under_way.fetch_add(1, SeqCst);
                    counters.most.fetch_max(now, SeqCst);
                    sleep(Duration::from_millis(10)).await;
                    counters.under_way.fetch_sub(1, SeqCst);
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hi")))
                }
            });
            let mut builder =
                hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.max_concurrent_streams(most);
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, seen)
}

/// Sends so many requests at once; the number of answers, and each error with its count.
async fn burst(
    client: &HttpClient,
    url: &Uri,
    count: usize,
) -> (usize, BTreeMap<String, usize>) {
    let mut requests = JoinSet::new();
    for _ in 0..count {
        requests.spawn(program::get(client.clone(), url.clone()));
    }
    let (mut answered, mut errors) = (0, BTreeMap::new());
    for outcome in requests.join_all().await {
        match outcome {
            Ok(_) => answered += 1,
            Err(error) => *errors.entry(program::report(&*error)).or_insert(0) += 1,
        }
    }
    (answered, errors)
}

#[tokio::test]
async fn many_requests_at_once_share_one_connection() {
    let (url, seen) = serve(1000).await;
    let client = program::client(HttpConnector::new());
    let (answered, errors) = burst(&client, &url, 100).await;
    assert_eq!((answered, errors), (100, BTreeMap::new()));
    assert_eq!(seen.connections.load(SeqCst), 1);
    assert!(seen.most.load(SeqCst) > 1, "requests are under way at the same time");
}

#[tokio::test]
async fn the_limit_of_the_server_is_kept_from_the_first_request_on() {
    let (url, seen) = serve(3).await;
    let client = program::client(HttpConnector::new());
    let (answered, errors) = burst(&client, &url, 20).await;
    assert_eq!((answered, errors), (20, BTreeMap::new()));
    assert_eq!(seen.connections.load(SeqCst), 1, "the rest wait, nobody connects");
    let most = seen.most.load(SeqCst);
    assert!((2..=3).contains(&most), "{most} at once");
}

/// Sends requests to a server that keeps its settings back. How many arrive before it has sent
/// them; it refuses those, and the error of each is this.
async fn before_the_settings(client: HttpClient) -> (usize, Vec<String>) {
    let (listener, url) = listen().await;
    let mut requests = JoinSet::new();
    for _ in 0..120 {
        requests.spawn(program::get(client.clone(), url.clone()));
    }
    let mut stream = listener.accept().await.unwrap().0;
    stream.read_exact(&mut vec![0; PREFACE.len()]).await.unwrap();
    let mut arrived = Vec::new();
    // On a paused clock this ends when the client waits.
    while let Ok(Ok((kind, id, _))) =
        timeout(Duration::from_secs(1), read_frame(&mut stream)).await
    {
        if kind == HEADERS {
            arrived.push(id);
        }
    }
    stream.write_all(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0])).await.unwrap();
    for id in &arrived {
        let code = REFUSED_STREAM.to_be_bytes();
        stream.write_all(&frame(RST_STREAM, 0, *id, &code)).await.unwrap();
    }
    let mut errors = Vec::new();
    for _ in &arrived {
        let error = requests.join_next().await.unwrap().unwrap().unwrap_err();
        errors.push(program::report(&*error));
    }
    (arrived.len(), errors)
}

#[tokio::test(start_paused = true)]
async fn requests_before_the_settings_are_refused_or_wait_for_them() {
    let default = here().number("By default hyper sends up to {} requests");
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let (arrived, errors) = before_the_settings(client).await;
    assert_eq!(arrived as u64, default);
    let refused = "client error (SendRequest): http2 error: stream error received: refused \
                   stream before processing any application logic";
    assert!(errors.iter().all(|error| error == refused), "{errors:?}");
    let client = program::client(HttpConnector::new());
    assert_eq!(before_the_settings(client).await.0, 0);
}

/// A server told to stop: the request under way is answered, and the next one goes over a second
/// connection.
#[tokio::test]
async fn a_goaway_lets_requests_under_way_finish_and_the_next_one_connects() {
    let (listener, url) = listen().await;
    let (stop, arrived) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (stopped, begun) = (stop.clone(), arrived.clone());
    let server = tokio::spawn(async move {
        let mut connections = 0;
        loop {
            let stream = listener.accept().await.unwrap().0;
            connections += 1;
            let (begun, number) = (begun.clone(), connections);
            let service = service_fn(move |_: Request<Incoming>| {
                let begun = begun.clone();
                async move {
                    begun.notify_one();
                    sleep(Duration::from_millis(50)).await;
                    let body = Full::<Bytes>::from(format!("connection {number}"));
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            let conn = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut conn = std::pin::pin!(conn);
                tokio::select! {
                    end = &mut conn => return end,
                    () = stopped.notified() => {}
                }
                conn.as_mut().graceful_shutdown();
                conn.await
            });
        }
    });
    let client = program::client(HttpConnector::new());
    let text = |client: HttpClient, url: Uri| async move {
        client.get(url).await.unwrap().into_body().collect().await.unwrap().to_bytes()
    };
    let first = tokio::spawn(text(client.clone(), url.clone()));
    arrived.notified().await;
    stop.notify_one();
    assert_eq!(first.await.unwrap(), "connection 1");
    assert_eq!(text(client, url).await, "connection 2");
    server.abort();
}

/// Reads the preface and the settings of the client, and answers as a server does.
async fn settled(stream: &mut TcpStream) {
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut preface = vec![0; PREFACE.len()];
    stream.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, PREFACE.as_bytes());
}

#[tokio::test]
async fn a_goaway_says_which_requests_were_not_processed() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        settled(&mut stream).await;
        // The last stream that was processed: none.
        let none = [0, 0, 0, 0, 0, 0, 0, 0];
        loop {
            let (kind, ..) = read_frame(&mut stream).await.unwrap();
            if kind == HEADERS {
                stream.write_all(&frame(GOAWAY, 0, 0, &none)).await.unwrap();
                return stream;
            }
        }
    });
    let client = program::client(HttpConnector::new());
    let error = program::get(client, url).await.unwrap_err();
    let error = program::report(&*error);
    assert_eq!(
        error,
        "client error (SendRequest): http2 error: connection error received: not a result of an error"
    );
    drop(server);
}

/// A server that answers the first request, and then nothing, not even a PING. The socket stays
/// open, as when a cable is pulled.
async fn dies_after_one(listener: &TcpListener) -> TcpStream {
    let mut stream = listener.accept().await.unwrap().0;
    settled(&mut stream).await;
    loop {
        let (kind, id, _) = read_frame(&mut stream).await.unwrap();
        if kind == HEADERS {
            let ok = frame(HEADERS, END_HEADERS_AND_STREAM, id, b"\x88");
            stream.write_all(&ok).await.unwrap();
            return stream;
        }
    }
}

async fn swallow(mut stream: TcpStream) {
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
}

#[tokio::test(start_paused = true)]
async fn pings_find_a_dead_server_and_the_next_request_connects() {
    let [after, answer] = page("client/http2")
        .numbers("silent for {} seconds gets a PING, and has {} seconds to answer");
    let (listener, url) = listen().await;
    let client = program::client(HttpConnector::new());
    let (_, dead) = tokio::join!(
        async { program::get(client.clone(), url.clone()).await.unwrap() },
        dies_after_one(&listener),
    );
    let dead = tokio::spawn(swallow(dead));
    let start = Instant::now();
    let error = program::get(client.clone(), url.clone()).await.unwrap_err();
    let error = program::report(&*error);
    assert_eq!(
        error,
        "client error (SendRequest): http2 error: keep-alive timed out: operation timed out"
    );
    assert_eq!(start.elapsed().as_secs(), after + answer);
    let (next, _) = tokio::join!(
        async { program::get(client, url).await.unwrap() },
        dies_after_one(&listener),
    );
    assert_eq!(next.0, 200);
    dead.abort();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_while_nobody_asks_is_noticed_before_the_next_request() {
    let (listener, url) = listen().await;
    let client = program::client(HttpConnector::new());
    let (_, dead) = tokio::join!(
        async { program::get(client.clone(), url.clone()).await.unwrap() },
        dies_after_one(&listener),
    );
    let dead = tokio::spawn(swallow(dead));
    sleep(program::PING_AFTER + program::PING_ANSWER + Duration::from_secs(1)).await;
    let (next, _) = tokio::join!(
        async { program::get(client, url).await.unwrap() },
        dies_after_one(&listener),
    );
    assert_eq!(next.0, 200);
    dead.abort();
}

#[tokio::test(start_paused = true)]
async fn without_pings_the_dead_connection_is_used_again() {
    let (listener, url) = listen().await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let (_, dead) = tokio::join!(
        async { program::get(client.clone(), url.clone()).await.unwrap() },
        dies_after_one(&listener),
    );
    let dead = tokio::spawn(swallow(dead));
    for _ in 0..3 {
        let error = program::get(client.clone(), url.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "deadline has elapsed");
    }
    let another = timeout(Duration::from_secs(1), listener.accept()).await;
    assert!(another.is_err(), "nobody connects");
    dead.abort();
}

/// A body of which the server sends less than it said, and then resets the stream with this code.
async fn cut_short(code: u32) -> Result<Bytes, String> {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        settled(&mut stream).await;
        loop {
            let (kind, id, _) = read_frame(&mut stream).await.unwrap();
            if kind == HEADERS {
                // `:status: 200` and `content-length: 10`, four bytes of it, and the reset.
                let head = b"\x88\x0f\x0d\x0210";
                stream.write_all(&frame(HEADERS, 4, id, head)).await.unwrap();
                stream.write_all(&frame(0, 0, id, b"half")).await.unwrap();
                let reset = frame(RST_STREAM, 0, id, &code.to_be_bytes());
                stream.write_all(&reset).await.unwrap();
                return stream;
            }
        }
    });
    let client = program::client(HttpConnector::new());
    let response = client.get(url).await.unwrap();
    assert_eq!(response.headers()["content-length"], "10");
    let _stream = server.await.unwrap();
    let body = response.into_body().collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| program::report(&error))
}

#[tokio::test]
async fn a_body_cut_short_by_no_error_looks_whole() {
    assert_eq!(cut_short(0).await.unwrap(), "half");
    let error = cut_short(2).await.unwrap_err();
    assert!(
        error.contains("stream error received: unexpected internal error"),
        "{error}"
    );
}

#[tokio::test]
async fn pings_without_a_timer_panic() {
    let (listener, url) = listen().await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .build_http::<Empty<Bytes>>();
    let request = tokio::spawn(client.get(url));
    let _stream = listener.accept().await.unwrap();
    let panic = request.await.unwrap_err().into_panic();
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    assert_eq!(text.as_deref(), Some("You must supply a timer."));
}

/// Carries bytes from one stream to another, each later by `delay`, however many are under way.
async fn carry(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) {
    let (sender, mut under_way) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            sender.send((Instant::now() + delay, buffer[..count].to_vec())).ok();
        }
    });
    while let Some((when, bytes)) = under_way.recv().await {
        sleep_until(when).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    to.shutdown().await.ok();
}

/// The two ends of a connection with this time for a round trip, and no limit of speed.
fn far(round_trip: Duration) -> (DuplexStream, DuplexStream) {
    let (client, near) = tokio::io::duplex(1024 * 1024);
    let (server, there) = tokio::io::duplex(1024 * 1024);
    let (near_read, near_write) = tokio::io::split(near);
    let (there_read, there_write) = tokio::io::split(there);
    tokio::spawn(carry(near_read, there_write, round_trip / 2));
    tokio::spawn(carry(there_read, near_write, round_trip / 2));
    (client, server)
}

/// How long a response of so many bytes takes over such a connection.
async fn download(size: usize, builder: &Builder<TokioExecutor>) -> Duration {
    let round_trip = page("client/http2").number("a round trip of {} ms");
    let (client, server) = far(Duration::from_millis(round_trip));
    let service = service_fn(move |_: Request<Incoming>| async move {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(vec![0; size])))
    });
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service),
    );
    let (mut sender, conn) =
        builder.handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.unwrap();
    tokio::spawn(conn);
    let ask = || Request::get("http://far.test/").body(Empty::new()).unwrap();
    let start = Instant::now();
    let body = sender.send_request(ask()).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), size);
    start.elapsed()
}

fn windows(stream: u64, connection: u64) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(stream as u32)
        .initial_connection_window_size(connection as u32);
    builder
}

fn here() -> Prose {
    page("client/http2")
}

#[tokio::test(start_paused = true)]
async fn a_download_gets_a_window_for_each_round_trip() {
    const MIB: u64 = 1024 * 1024;
    let size = here().number("a response of {} MiB") * MIB;
    let [small, small_took] = here().numbers("{} bytes | {} ms");
    let [one, one_took] = here().numbers("{} MiB | {} ms");
    let [default, default_took] = here().numbers("{} MiB, hyper’s default | {} ms");
    let [large, large_took] = here().numbers("{} MiB, far more than usual | {} ms");
    let adaptive_took = here().number("adaptive_window(true) | {} ms");
    assert_eq!(default * MIB, u64::from(program::STREAM_WINDOW));
    let own =
        windows(program::STREAM_WINDOW.into(), program::CONNECTION_WINDOW.into());
    let mut adaptive = Builder::new(TokioExecutor::new());
    adaptive.timer(TokioTimer::new()).adaptive_window(true);
    for (what, builder, expected) in [
        ("a small window", windows(small, small), small_took),
        ("1 MiB", windows(one * MIB, one * MIB), one_took),
        ("hyper's default", Builder::new(TokioExecutor::new()), default_took),
        ("the window of the program", own, default_took),
        ("a large window", windows(large * MIB, large * MIB), large_took),
        ("an adaptive window", adaptive, adaptive_took),
    ] {
        let took = download(size as usize, &builder).await.as_millis();
        assert_eq!(took, u128::from(expected), "{what}");
    }
}

/// The windows that a client opens at its start: of a response, and of the connection.
async fn opened(client: HttpClient) -> (u64, u64) {
    let (listener, url) = listen().await;
    let request = tokio::spawn(client.get(url));
    let mut stream = listener.accept().await.unwrap().0;
    stream.read_exact(&mut vec![0; PREFACE.len()]).await.unwrap();
    let (kind, _, settings) = read_frame(&mut stream).await.unwrap();
    assert_eq!(kind, SETTINGS);
    // SETTINGS_INITIAL_WINDOW_SIZE
    let window = settings.chunks(6).find(|setting| setting[..2] == [0, 4]).unwrap();
    loop {
        let (kind, stream, more) = read_frame(&mut stream).await.unwrap();
        // WINDOW_UPDATE: so much more than the first 65,535 bytes.
        if kind == 8 {
            assert_eq!(stream, 0);
            request.abort();
            return (code(&window[2..]).into(), u64::from(code(&more)) + 65_535);
        }
    }
}

#[tokio::test]
async fn the_windows_are_those_of_the_page_and_of_the_program() {
    const MIB: u64 = 1024 * 1024;
    let [connection] = here().numbers("the connection, {} MiB by default");
    let [stream, _] = here().numbers("{} MiB, hyper’s default | {} ms");
    let default = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    assert_eq!(opened(default).await, (stream * MIB, connection * MIB));
    let own = opened(program::client(HttpConnector::new())).await;
    assert_eq!(
        own,
        (program::STREAM_WINDOW.into(), program::CONNECTION_WINDOW.into())
    );
}

/// What becomes of requests that wait for a place when their connection ends: the server
/// takes one at a time, and closes while it works on it. The next connection answers.
#[tokio::test]
async fn requests_that_wait_for_a_place_go_over_the_next_connection_but_for_one() {
    let (listener, url) = listen().await;
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = arrived.clone();
    let server = tokio::spawn(async move {
        let settings = [0, 3, 0, 0, 0, 1];
        let mut stream = listener.accept().await.unwrap().0;
        stream.write_all(&frame(SETTINGS, 0, 0, &settings)).await.unwrap();
        let mut preface = vec![0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        while read_frame(&mut stream).await.unwrap().0 != HEADERS {}
        // The others have got as far as they can.
        sleep(Duration::from_millis(100)).await;
        drop(stream);
        let stream = listener.accept().await.unwrap().0;
        let service = service_fn(move |_| {
            count.fetch_add(1, SeqCst);
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hi"))) }
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(TokioIo::new(stream), service).await.ok();
    });
    let client = program::client(HttpConnector::new());
    let (answered, errors) = burst(&client, &url, 10).await;
    server.abort();
    assert_eq!((answered, arrived.load(SeqCst)), (8, 8), "{errors:?}");
    page("client/http2").says("The next in line is the exception");
    let next = "client error (SendRequest): dispatch task is gone: runtime dropped the dispatch task";
    assert_eq!(errors.get(next), Some(&1), "{errors:?}");
    let under_way = errors.keys().find(|error| *error != next).unwrap();
    let broken = under_way.starts_with("client error (SendRequest): connection error: ");
    assert!(broken, "{under_way}");
}

#[test]
fn a_server_without_http2_is_reported() {
    let server = Program::start("hello-world");
    let url = format!("http://{}/", server.address);
    let (status, printed) = Program::client("client-http2", &[&url, "1"]).wait();
    // Which one depends on how far the request has come when the server closes.
    let errors = [
        "client error (SendRequest): dispatch task is gone: runtime dropped the dispatch task",
        "client error (Canceled): operation was canceled: connection ",
        "client error (SendRequest): connection error: ",
    ];
    let known = errors.iter().any(|error| printed[0].starts_with(error));
    assert!(known, "{}", printed[0]);
    assert_eq!(status.code(), Some(1));
}

/// nghttpd allows so many streams at once, and answers all requests over one connection.
#[test]
#[ignore = "needs nghttpd"]
fn others_nghttpd_answers_over_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), [0; 1000]).unwrap();
    let server = Program::of_others(|port| {
        let mut command = Command::new("nghttpd");
        command.args(["--no-tls", "-m", "5", "-d", folder.path().to_str().unwrap()]);
        command.args(["-a", "127.0.0.1", &port.to_string()]);
        command
    });
    let url = format!("http://{}/file", server.address);
    let (status, printed) = Program::client("client-http2", &[&url, "100"]).wait();
    assert_eq!(printed, ["successful: 100 of 100, 100000 bytes, connections: 1"]);
    assert!(status.success());
}
