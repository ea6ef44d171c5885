//! What src/client/retries.md promises.

use std::collections::HashSet;
use std::fs;
use std::future::{Future, pending, ready};
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};
use tower::retry::backoff::{Backoff, ExponentialBackoffMaker, MakeBackoff};
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, Retry};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use harness::{LIMIT, Program, Prose, Server, page};

use super::failures::{Memory, chain, read_head};
use program::Fate;

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/retries.rs"]
mod program;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connector = BoxCloneSyncService<Uri, Memory, io::Error>;
type TestClient = Client<Connector, Full<Bytes>>;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn retries() -> Prose {
    page("client/retries")
}

fn attempts() -> u64 {
    retries().number("A request is sent {} times at most")
}

/// A connector whose connections `serve` answers: it gets the number of the connection, from 1.
fn connector<S, F>(serve: S) -> Connector
where
    S: Fn(u32, DuplexStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let count = Arc::new(AtomicU32::new(0));
    BoxCloneSyncService::new(service_fn(move |_: Uri| {
        let (client, server) = Memory::pair();
        tokio::spawn(serve(count.fetch_add(1, Relaxed) + 1, server));
        ready(Ok(client))
    }))
}

/// A client, and the number of requests that its server has read.
fn counted<S, F>(serve: S) -> (TestClient, Arc<AtomicU32>)
where
    S: Fn(u32, DuplexStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let requests = Arc::new(AtomicU32::new(0));
    let connector = connector({
        let requests = requests.clone();
        move |_, mut stream| {
            let (requests, serve) = (requests.clone(), serve.clone());
            async move {
                read_head(&mut stream).await;
                let number = requests.fetch_add(1, Relaxed) + 1;
                serve(number, stream).await;
            }
        }
    });
    (Client::builder(TokioExecutor::new()).build(connector), requests)
}

fn request(method: Method) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri("http://server.test/")
        .body(Full::default())
        .unwrap()
}

/// Runs this on a clock that stands still while something can run.
fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

// The fate of a request.

#[test]
fn the_connect_counts_as_a_part_of_the_attempt() {
    let limit = retries().number("Each attempt has {} seconds, its connect included");
    paused(async {
        let start = Instant::now();
        let hang = |_: Uri| pending::<io::Result<Memory>>();
        let client: TestClient = Client::builder(TokioExecutor::new())
            .build(Connector::new(service_fn(hang)));
        let budget = TpsBudget::new(Duration::from_secs(10), 0, 0.0);
        let result = program::send(&client, &budget, request(Method::GET)).await;
        assert_eq!(chain(&*result.unwrap_err()), "deadline has elapsed");
        assert_eq!(start.elapsed().as_secs(), limit);
    });
}

/// What the program thinks of a server that reads a request, sends these bytes and closes.
fn fate_after(bytes: &'static [u8]) -> Fate {
    paused(async {
        let (client, _) = counted(move |_, mut stream| async move {
            stream.write_all(bytes).await.unwrap();
        });
        let error =
            program::attempt(&client, request(Method::GET)).await.unwrap_err();
        program::fate(&*error)
    })
}

#[test]
fn without_a_connection_nothing_was_processed() {
    paused(async {
        let refused = || ready(Err(io::ErrorKind::ConnectionRefused.into()));
        let connector = Connector::new(service_fn(move |_: Uri| refused()));
        let client: TestClient =
            Client::builder(TokioExecutor::new()).build(connector);
        let error =
            program::attempt(&client, request(Method::POST)).await.unwrap_err();
        assert_eq!(program::fate(&*error), Fate::NotProcessed);
    });
}

#[test]
fn a_request_that_cannot_be_sent_is_not_repeated() {
    paused(async {
        let (client, _) = counted(|_, _| pending());
        let mut request = request(Method::GET);
        *request.uri_mut() = Uri::from_static("/path");
        let error = program::attempt(&client, request).await.unwrap_err();
        assert_eq!(program::fate(&*error), Fate::Final);
    });
}

#[test]
fn a_close_before_the_response_proves_nothing() {
    assert_eq!(fate_after(b""), Fate::Unknown);
    assert_eq!(fate_after(b"HTTP/1.1 200 OK\r\ncont"), Fate::Unknown);
}

#[test]
fn a_reset_before_the_response_proves_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        // The request stays in the socket. A close then is a reset.
        stream.peek(&mut [0]).unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::get(url).body(Full::default()).unwrap();
        let attempt = timeout(LIMIT, program::attempt(&client, request));
        let error = attempt.await.expect("the reset is noticed").unwrap_err();
        assert_eq!(
            chain(&*error),
            "client error (SendRequest): connection error: Connection reset by peer (os error 104)"
        );
        assert_eq!(program::fate(&*error), Fate::Unknown);
    });
    server.join().unwrap();
}

#[test]
fn a_body_that_is_cut_proves_nothing() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi";
    assert_eq!(fate_after(cut), Fate::Unknown);
}

#[test]
fn a_response_that_is_no_http_is_final() {
    assert_eq!(fate_after(b"SSH-2.0-OpenSSH_9.9\r\n"), Fate::Final);
}

#[test]
fn a_body_that_is_too_long_is_final() {
    static LONG: &[u8] = &[b'x'; program::MAX_BODY + 1];
    paused(async {
        let (client, _) = counted(|_, mut stream| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            stream.write_all(LONG).await.ok();
        });
        let error =
            program::attempt(&client, request(Method::GET)).await.unwrap_err();
        assert_eq!(program::fate(&*error), Fate::Final);
    });
}

#[test]
fn a_time_limit_proves_nothing() {
    paused(async {
        let elapsed: BoxError =
            timeout(Duration::ZERO, pending::<()>()).await.unwrap_err().into();
        assert_eq!(program::fate(&*elapsed), Fate::Unknown);
    });
}

// HTTP/2, frame by frame.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// `:status: 200` of the static table, and a new `content-length: 9`.
pub const NINE_BYTES: &[u8] = &[0x88, 0x0f, 0x0d, 1, b'9'];

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn goaway(last_stream: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), reason.to_be_bytes()].concat())
}

pub fn reset(reason: h2::Reason) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &u32::from(reason).to_be_bytes())
}

/// Answers the first request on an HTTP/2 connection with these frames.
pub async fn answer(stream: &mut DuplexStream, frames: &[u8]) {
    first_request(stream, &[]).await;
    stream.write_all(frames).await.unwrap();
}

/// Sends these settings, and reads the first request on an HTTP/2 connection.
async fn first_request(stream: &mut DuplexStream, settings: &[u8]) {
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    while next_frame(stream).await != HEADERS {}
}

/// Reads a frame; its type.
async fn next_frame(stream: &mut DuplexStream) -> u8 {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.unwrap();
    head[3]
}

fn http2<S, F>(serve: S) -> TestClient
where
    S: Fn(u32, DuplexStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector(serve))
}

/// The error of a request over HTTP/2 that is answered with these frames, with its fate. Then the
/// server closes the connection, or leaves it open.
fn http2_fate(frames: Vec<u8>, close: bool) -> (Fate, String) {
    paused(async {
        let client = http2(move |_, mut stream| {
            let frames = frames.clone();
            async move {
                answer(&mut stream, &frames).await;
                if !close {
                    pending().await
                }
            }
        });
        let error =
            program::attempt(&client, request(Method::POST)).await.unwrap_err();
        (program::fate(&*error), chain(&*error))
    })
}

#[test]
fn refused_stream_was_not_processed() {
    let (fate, chain) = http2_fate(reset(h2::Reason::REFUSED_STREAM), false);
    assert_eq!(
        chain,
        "client error (SendRequest): http2 error: stream error received: refused stream before processing any application logic"
    );
    assert_eq!(fate, Fate::NotProcessed);
}

#[test]
fn another_reset_of_a_stream_proves_nothing() {
    for reason in [h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR] {
        assert_eq!(http2_fate(reset(reason), false).0, Fate::Unknown, "{reason:?}");
    }
}

#[test]
fn goaway_with_a_lower_stream_was_not_processed() {
    let (fate, chain) = http2_fate(goaway(0, 0), false);
    assert_eq!(
        chain,
        "client error (SendRequest): http2 error: connection error received: not a result of an error"
    );
    assert_eq!(fate, Fate::NotProcessed);
    let too_many_pings = 11;
    assert_eq!(http2_fate(goaway(0, too_many_pings), true).0, Fate::NotProcessed);
}

#[test]
fn goaway_that_covers_the_stream_proves_nothing() {
    for reason in [0, 2, 11] {
        let (fate, chain) = http2_fate(goaway(1, reason), true);
        assert_eq!(fate, Fate::Unknown, "{chain}");
    }
}

#[test]
fn an_error_that_the_client_itself_finds_proves_nothing() {
    // Data belongs to a stream.
    let (fate, chain) = http2_fate(frame(DATA, 0, 0, b"x"), false);
    assert!(chain.contains("connection error detected"), "{chain}");
    assert_eq!(fate, Fate::Unknown);
}

#[test]
fn a_close_over_http2_proves_nothing() {
    assert_eq!(http2_fate(Vec::new(), true).0, Fate::Unknown);
}

#[test]
fn a_reset_in_the_middle_of_a_body_proves_nothing() {
    // :status 200 of the static table.
    let head = frame(HEADERS, 4, 1, &[0x88]);
    let frames = [head, reset(h2::Reason::INTERNAL_ERROR)].concat();
    assert_eq!(http2_fate(frames, false).0, Fate::Unknown);
}

#[test]
fn a_body_that_a_server_ends_early_without_an_error_is_fetched_again() {
    let head = frame(HEADERS, 4, 1, NINE_BYTES);
    let early =
        [&*head, &frame(DATA, 0, 1, b"hi"), &reset(h2::Reason::NO_ERROR)].concat();
    let whole = [&*head, &frame(DATA, 1, 1, b"nine long")].concat();
    let (fate, chain) = http2_fate(early.clone(), false);
    assert_eq!((fate, &*chain), (Fate::Unknown, "the body ended early"));
    paused(async {
        // hyper forgets the stream, and goes on with the connection.
        let client = http2(move |number, mut stream| {
            let frames = if number == 1 { early.clone() } else { whole.clone() };
            async move {
                answer(&mut stream, &frames).await;
                if number > 1 {
                    pending().await
                }
            }
        });
        let budget = program::budget();
        let response = program::send(&client, &budget, request(Method::GET)).await;
        assert_eq!(response.unwrap().body(), "nine long");
    });
}

#[test]
fn a_response_that_has_no_body_may_announce_one() {
    let answer_with = |frames: Vec<u8>, method| {
        paused(async {
            let client = http2(move |_, mut stream| {
                let frames = frames.clone();
                async move {
                    answer(&mut stream, &frames).await;
                    pending().await
                }
            });
            program::attempt(&client, request(method)).await.unwrap()
        })
    };
    let head = answer_with(frame(HEADERS, 5, 1, NINE_BYTES), Method::HEAD);
    assert_eq!(head.headers()["content-length"], "9");
    // :status 304 of the static table.
    let not_modified = [&[0x8b], &NINE_BYTES[1..]].concat();
    let head = answer_with(frame(HEADERS, 5, 1, &not_modified), Method::GET);
    assert_eq!(head.status(), 304);
}

/// What becomes of three requests on a connection that allows one at a time, when the server sends
/// this after the first, and closes; and the number of requests that it saw.
fn waiting_in_line(end: Vec<u8>, retry: bool) -> (Vec<Result<u16, BoxError>>, u32) {
    paused(async {
        let requests = Arc::new(AtomicU32::new(0));
        let seen = requests.clone();
        let connector = connector(move |number, mut stream| {
            let (end, seen) = (end.clone(), seen.clone());
            async move {
                // SETTINGS_MAX_CONCURRENT_STREAMS
                first_request(&mut stream, &[0, 3, 0, 0, 0, 1]).await;
                seen.fetch_add(1, Relaxed);
                if number > 1 {
                    stream.write_all(&frame(HEADERS, 5, 1, &[0x88])).await.unwrap();
                    return pending().await;
                }
                let more = async {
                    while next_frame(&mut stream).await != HEADERS {}
                    seen.fetch_add(1, Relaxed);
                };
                timeout(Duration::from_secs(2), more).await.ok();
                stream.write_all(&end).await.unwrap();
            }
        });
        let client: TestClient = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .retry_canceled_requests(retry)
            .build(connector);
        let one = async |wait| {
            sleep(Duration::from_millis(wait)).await;
            let response = program::attempt(&client, request(Method::POST)).await?;
            Ok(response.status().as_u16())
        };
        let (a, b, c) = tokio::join!(one(0), one(1000), one(1001));
        (vec![a, b, c], requests.load(Relaxed))
    })
}

#[test]
fn of_the_requests_that_wait_in_line_one_loses_its_dispatch_task() {
    for end in [Vec::new(), goaway(1, 0)] {
        let (results, seen) = waiting_in_line(end.clone(), false);
        assert_eq!(seen, 1, "the other two were not sent");
        let errors: Vec<_> =
            results.iter().map(|result| result.as_ref().unwrap_err()).collect();
        let gone = "client error (SendRequest): dispatch task is gone: runtime dropped the dispatch task";
        assert_eq!(chain(&**errors[1]), gone);
        let cause: &hyper::Error =
            errors[1].source().unwrap().downcast_ref().unwrap();
        assert!(!cause.is_canceled() && cause.is_user());
        assert_eq!(
            chain(&**errors[2]),
            "client error (Canceled): operation was canceled: connection closed"
        );
        let fates: Vec<_> =
            errors.iter().map(|error| program::fate(&***error)).collect();
        assert_eq!(fates, [Fate::Unknown, Fate::Unknown, Fate::NotProcessed]);

        let (results, _) = waiting_in_line(end, true);
        assert_eq!(chain(&**results[1].as_ref().unwrap_err()), gone);
        assert_eq!(*results[2].as_ref().unwrap(), 200, "repeated by the client");
    }
}

#[test]
fn a_dispatch_task_that_is_gone_may_have_sent_the_request() {
    retries().says("connection whose task was aborted after it wrote the request");
    paused(async {
        let (client, mut server) = Memory::pair();
        let (mut sender, conn) =
            hyper::client::conn::http1::handshake(client).await.unwrap();
        let task = tokio::spawn(conn);
        let request = sender.send_request(request(Method::POST));
        let abort = async {
            read_head(&mut server).await;
            task.abort();
        };
        let (result, ()) = tokio::join!(request, abort);
        assert_eq!(
            chain(&result.unwrap_err()),
            "dispatch task is gone: runtime dropped the dispatch task"
        );
    });
}

#[test]
fn a_post_that_was_refused_is_sent_again() {
    paused(async {
        let client = http2(|number, mut stream| async move {
            let response = match number {
                1 => goaway(0, 0),
                _ => frame(HEADERS, 5, 1, &[0x88]),
            };
            answer(&mut stream, &response).await;
            pending().await
        });
        let budget = program::budget();
        let response = program::send(&client, &budget, request(Method::POST)).await;
        assert_eq!(response.unwrap().status(), 200);
    });
}

// The keep-alive race.

/// A server that answers a first request on each of its first connections, and closes when it has
/// read a second one. Its last connection answers it.
fn race(
    mut second: Request<Full<Bytes>>,
) -> (Result<Response<Bytes>, BoxError>, u32) {
    paused(async {
        let seconds = Arc::new(AtomicU32::new(0));
        let connector = connector({
            let seconds = seconds.clone();
            move |number, mut stream| {
                let seconds = seconds.clone();
                async move {
                    if number == 1 {
                        read_head(&mut stream).await;
                        stream.write_all(OK).await.unwrap();
                    }
                    read_head(&mut stream).await;
                    seconds.fetch_add(1, Relaxed);
                    if number > 1 {
                        stream.write_all(OK).await.unwrap();
                        pending().await
                    }
                }
            }
        });
        let client: TestClient =
            Client::builder(TokioExecutor::new()).build(connector);
        let budget = program::budget();
        program::send(&client, &budget, request(Method::GET)).await.unwrap();
        // Now the connection is idle.
        tokio::task::yield_now().await;
        *second.uri_mut() = Uri::from_static("http://server.test/");
        let result = program::send(&client, &budget, second).await;
        (result, seconds.load(Relaxed))
    })
}

#[test]
fn the_keep_alive_race_is_lost_and_a_get_or_put_is_sent_again() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let (result, sent) = race(request(method.clone()));
        assert_eq!(result.unwrap().status(), 200, "{method}");
        assert_eq!(sent, 2, "{method}");
    }
}

#[test]
fn the_keep_alive_race_is_lost_and_a_post_is_not_sent_again() {
    for method in [Method::POST, Method::PATCH] {
        let (result, sent) = race(request(method.clone()));
        assert_eq!(
            chain(&*result.unwrap_err()),
            "client error (SendRequest): connection closed before message completed"
        );
        assert_eq!(sent, 1, "{method}");
    }
}

#[test]
fn a_post_with_an_idempotency_key_is_sent_again() {
    let mut post = request(Method::POST);
    post.headers_mut().insert("idempotency-key", "8e03978e".parse().unwrap());
    let (result, sent) = race(post);
    assert_eq!((result.unwrap().status().as_u16(), sent), (200, 2));
}

/// A client with an idle connection that the server has just closed, which the client has not
/// noticed; and what becomes of its next request, with the number of connections.
fn closed_while_idle(
    retry: bool,
) -> (Result<Response<Incoming>, legacy::Error>, u32) {
    paused(async {
        let (ends, mut servers) = tokio::sync::mpsc::unbounded_channel();
        let connections = Arc::new(AtomicU32::new(0));
        let connector = connector({
            let connections = connections.clone();
            move |number, mut stream| {
                let ends = ends.clone();
                connections.store(number, Relaxed);
                async move {
                    read_head(&mut stream).await;
                    stream.write_all(OK).await.unwrap();
                    ends.send(stream).unwrap();
                }
            }
        });
        let client: TestClient = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(retry)
            .build(connector);
        program::attempt(&client, request(Method::GET)).await.unwrap();
        let server = servers.recv().await.unwrap();
        tokio::task::yield_now().await;
        drop(server);
        // No task runs between the close and the request.
        let result = client.request(request(Method::POST)).await;
        (result, connections.load(Relaxed))
    })
}

#[test]
fn the_client_itself_repeats_only_what_was_never_written() {
    retries().says("on by default");
    let (result, connections) = closed_while_idle(true);
    assert_eq!((result.unwrap().status().as_u16(), connections), (200, 2));
}

#[test]
fn without_retry_canceled_requests_the_error_proves_that_nothing_was_sent() {
    let (result, connections) = closed_while_idle(false);
    let error = result.unwrap_err();
    assert_eq!(
        chain(&error),
        "client error (Canceled): operation was canceled: connection closed"
    );
    assert_eq!(program::fate(&error), Fate::NotProcessed);
    assert_eq!(connections, 1);
}

/// A new connection that the server closes when the client has seen it open.
struct OpenOnce(bool);

impl hyper::rt::Read for OpenOnce {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match std::mem::replace(&mut self.0, true) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

impl hyper::rt::Write for OpenOnce {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        panic!("{:?} is written", String::from_utf8_lossy(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for OpenOnce {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[test]
fn on_a_new_connection_the_client_does_not_repeat_what_was_never_written() {
    retries().says("the client repeats only what it put on one from the pool");
    paused(async {
        let open = |_: Uri| ready(Ok::<_, io::Error>(OpenOnce(false)));
        let client = Client::builder(TokioExecutor::new()).build(service_fn(open));
        let error =
            program::attempt(&client, request(Method::POST)).await.unwrap_err();
        assert_eq!(
            chain(&*error),
            "client error (Canceled): operation was canceled: connection closed before message completed"
        );
        assert_eq!(program::fate(&*error), Fate::NotProcessed);
    });
}

// How often, and when.

#[test]
fn a_server_that_always_closes_is_tried_a_few_times() {
    paused(async {
        let (client, requests) = counted(|_, _| ready(()));
        let result =
            program::send(&client, &program::budget(), request(Method::GET)).await;
        result.unwrap_err();
        assert_eq!(u64::from(requests.load(Relaxed)), attempts());
    });
}

#[test]
fn a_broken_body_is_fetched_again() {
    paused(async {
        let (client, requests) = counted(|number, mut stream| async move {
            let cut = if number == 1 { 1 } else { 0 };
            stream.write_all(&OK[..OK.len() - cut]).await.unwrap();
        });
        let result =
            program::send(&client, &program::budget(), request(Method::GET)).await;
        assert_eq!(result.unwrap().body(), "ok");
        assert_eq!(requests.load(Relaxed), 2);
    });
}

#[test]
fn an_attempt_that_hangs_is_given_up_and_repeated() {
    let limit = retries().number("Each attempt has {} seconds");
    paused(async {
        let start = Instant::now();
        let (client, _) = counted(|number, mut stream| async move {
            if number > 1 {
                stream.write_all(OK).await.unwrap();
            }
            pending().await
        });
        let result =
            program::send(&client, &program::budget(), request(Method::GET)).await;
        assert_eq!(result.unwrap().status(), 200);
        let took = start.elapsed().as_secs_f64();
        assert!((limit as f64..limit as f64 + 0.2).contains(&took), "{took} s");
    });
}

/// A connection that is silent from its second request on.
#[test]
fn after_a_time_limit_the_next_attempt_leaves_an_http2_connection_that_is_dead() {
    retries().says("After a time limit, the connection is poisoned");
    paused(async {
        let client = http2(|number, mut stream| async move {
            let ok = frame(HEADERS, 5, 1, b"\x88");
            answer(&mut stream, &ok).await;
            if number == 1 {
                while next_frame(&mut stream).await != HEADERS {}
            }
            pending().await
        });
        let budget = program::budget();
        let get = || program::send(&client, &budget, request(Method::GET));
        assert_eq!(get().await.unwrap().status(), 200);
        let start = Instant::now();
        let again = get().await.expect("the second attempt has a new connection");
        assert_eq!(again.status(), 200);
        let took = start.elapsed();
        assert!(took < 2 * program::ATTEMPT, "{took:?}");
    });
}

#[test]
fn the_total_limit_ends_the_attempts() {
    let limit = retries().number("all of them together have {} seconds");
    paused(async {
        let start = Instant::now();
        let (client, _) = counted(|_, stream| async move {
            let _open = stream;
            pending().await
        });
        let result =
            program::send(&client, &program::budget(), request(Method::GET)).await;
        assert_eq!(chain(&*result.unwrap_err()), "deadline has elapsed");
        let took = start.elapsed().as_secs_f64();
        assert!((limit as f64..limit as f64 + 0.1).contains(&took), "{took} s");
    });
}

#[test]
fn the_pauses_grow_and_are_random() {
    let first = retries().number("at random, up to {} milliseconds");
    for (attempt, longest) in [(1, first), (2, 2 * first), (3, 4 * first)] {
        let pauses: Vec<_> = (0..200).map(|_| program::pause(attempt)).collect();
        let longest = Duration::from_millis(longest);
        let max = pauses.iter().max().unwrap();
        let min = pauses.iter().min().unwrap();
        assert!(*max <= longest && *max > longest / 2, "{attempt}: {max:?}");
        assert!(*min < longest / 2, "{attempt}: {min:?}");
        let distinct: HashSet<_> = pauses.iter().collect();
        assert!(distinct.len() > 100, "{attempt}: not at random");
    }
}

#[test]
fn the_budget_allows_one_retry_for_a_few_requests() {
    let each = retries().number("one retry for every {} requests");
    let reserve = retries().number("may begin with {} more");
    paused(async {
        let budget = program::budget();
        let requests = 100 * each;
        for _ in 0..requests {
            budget.deposit();
        }
        let retries = std::iter::from_fn(|| budget.withdraw().then_some(())).count();
        assert_eq!(retries as u64, 100 + reserve);
    });
}

#[test]
fn an_empty_budget_allows_no_retry() {
    paused(async {
        let (client, requests) = counted(|_, _| ready(()));
        let budget = TpsBudget::new(Duration::from_secs(10), 0, 0.0);
        program::send(&client, &budget, request(Method::GET)).await.unwrap_err();
        assert_eq!(requests.load(Relaxed), 1);
    });
}

/// A server that is busy once, for so many seconds.
fn busy(seconds: &str, method: Method) -> (Response<Bytes>, u32, Duration) {
    busy_after(Duration::ZERO, seconds, method)
}

/// A server that thinks for a while, and then is busy once, for so many seconds.
fn busy_after(
    think: Duration,
    seconds: &str,
    method: Method,
) -> (Response<Bytes>, u32, Duration) {
    let busy = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n"
    );
    paused(async {
        let start = Instant::now();
        let (client, requests) = counted(move |number, mut stream| {
            let busy = busy.clone();
            async move {
                let bytes = if number == 1 { busy.as_bytes() } else { OK };
                sleep(think).await;
                stream.write_all(bytes).await.unwrap();
            }
        });
        let result =
            program::send(&client, &program::budget(), request(method)).await;
        (result.unwrap(), requests.load(Relaxed), start.elapsed())
    })
}

#[test]
fn retry_after_is_waited_for() {
    let (response, requests, took) = busy("7", Method::GET);
    assert_eq!((response.status().as_u16(), requests), (200, 2));
    assert!((7.0..7.2).contains(&took.as_secs_f64()), "{took:?}");
}

#[test]
fn retry_after_is_not_for_a_post() {
    let (response, requests, _) = busy("7", Method::POST);
    assert_eq!((response.status().as_u16(), requests), (503, 1));
}

#[test]
fn retry_after_beyond_the_total_limit_or_no_number_returns_the_response() {
    for value in
        ["3600", "18446744073709551615", "Fri, 31 Dec 2999 23:59:59 GMT", "-1"]
    {
        let (response, requests, _) = busy(value, Method::GET);
        assert_eq!((response.status().as_u16(), requests), (503, 1), "{value}");
    }
}

#[test]
fn an_absurd_retry_after_does_not_overflow() {
    let absurd = u64::MAX.to_string();
    let (response, requests, took) =
        busy_after(Duration::from_secs(2), &absurd, Method::GET);
    assert_eq!((response.status().as_u16(), requests), (503, 1));
    assert_eq!(took.as_secs(), 2);
}

#[test]
fn a_status_without_retry_after_is_returned() {
    retries().says("and a 503 or 429 without the header, or a 502 or 504, too");
    for status in [429, 502, 503, 504] {
        paused(async {
            let (client, requests) = counted(move |_, mut stream| async move {
                let head = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
            });
            let budget = program::budget();
            let response = program::send(&client, &budget, request(Method::GET)).await;
            assert_eq!(response.unwrap().status(), status);
            assert_eq!(requests.load(Relaxed), 1, "{status}");
        });
    }
}

// What is said of tower.

#[test]
fn towers_backoff_maker_repeats_its_random_numbers() {
    retries().says("begins each sequence with the same random numbers");
    paused(async {
        let mut maker = ExponentialBackoffMaker::default();
        let [first, second] =
            [(); 2].map(|()| maker.make_backoff().next_backoff().deadline());
        assert_eq!(first, second, "tower now draws anew: change the page");
    });
}

/// Repeats after each error.
#[derive(Clone)]
struct EachError;

impl<R, E> Policy<Request<Full<Bytes>>, R, E> for EachError {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        result: &mut Result<R, E>,
    ) -> Option<Self::Future> {
        result.is_err().then(|| ready(()))
    }

    fn clone_request(
        &mut self,
        request: &Request<Full<Bytes>>,
    ) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

#[test]
fn towers_retry_does_not_see_a_body_that_breaks() {
    paused(async {
        let (client, requests) = counted(|_, mut stream| async move {
            stream.write_all(&OK[..OK.len() - 1]).await.unwrap();
        });
        let response = Retry::new(EachError, client)
            .oneshot(request(Method::GET))
            .await
            .unwrap();
        response.into_body().collect().await.unwrap_err();
        assert_eq!(requests.load(Relaxed), 1);
    });
}

// On the running program.

#[test]
fn it_sends_a_get_again_over_a_new_connection() {
    let server = Server::start();
    let mut program = Program::client("retries", &[&server.url("/hello")]);
    let first = server.accept().head().unwrap();
    let mut connection = server.accept();
    assert_eq!(connection.head().unwrap(), first);
    connection.send(OK);
    let (status, lines) = program.wait();
    assert_eq!(
        lines,
        [
            "attempt 1: client error (SendRequest): connection closed before message completed",
            "200 OK",
            "ok"
        ]
    );
    assert!(status.success());
}

#[test]
fn it_rejects_a_port_that_is_too_large() {
    let (status, lines) =
        Program::client("retries", &["http://127.0.0.1:99999/"]).wait();
    assert_eq!(lines, ["the port is not a number up to 65535"]);
    assert_eq!(status.code(), Some(1));
}

#[test]
fn it_sends_a_post_once() {
    let server = Server::start();
    let mut program = Program::client("retries", &[&server.url("/"), "hello"]);
    let mut connection = server.accept();
    assert!(connection.head().unwrap().starts_with("POST / HTTP/1.1\r\n"));
    assert_eq!(connection.bytes(5).unwrap(), b"hello");
    drop(connection);
    let (status, lines) = program.wait();
    assert_eq!(
        lines,
        ["client error (SendRequest): connection closed before message completed"]
    );
    assert_eq!(status.code(), Some(1));
    assert!(server.try_accept().is_none(), "a POST was sent twice");
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_closes_without_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let nginx = Program::nginx(
        folder.path(),
        "log_format method $request_method;
         server {
             listen 127.0.0.1:PORT; access_log log method;
             location / { return 200 fine; }
             location /close { return 444; }
         }",
    );
    let url = format!("http://{}", nginx.address);
    let (_, lines) = Program::client("retries", &[&url]).wait();
    assert_eq!(lines, ["200 OK", "fine"]);

    let close = format!("{url}/close");
    let gets = Program::client("retries", &[&close]).wait();
    assert_eq!((gets.0.code(), gets.1.len() as u64), (Some(1), attempts()));
    let posts = Program::client("retries", &[&close, "hello"]).wait();
    assert_eq!((posts.0.code(), posts.1.len()), (Some(1), 1));
    harness::wait("the log of nginx", || {
        let log = fs::read_to_string(&log).unwrap();
        let count =
            |method| log.lines().filter(|line| *line == method).count() as u64;
        (count("GET"), count("POST")) == (1 + attempts(), 1)
    });
}
