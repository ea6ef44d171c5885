//! What src/server/tower.md promises.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::timeout::TimeoutLayer;

use harness::{Answer, Connection, Program, Prose, page, wait};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/tower.rs"]
pub mod program;

fn tower() -> Prose {
    page("server/tower")
}

fn work() -> usize {
    tower().number("lets {} requests in at a time") as usize
}

fn seconds() -> u64 {
    tower().number("answers 503 after {} seconds, and drops the handler")
}

// On the running program.

/// The response to a GET request with these headers.
fn get(connection: &mut Connection, path: &str, headers: &str) -> Answer {
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n"));
    connection.response().unwrap()
}

#[test]
fn each_response_has_the_id_of_its_request() {
    let program = Program::start("tower");
    let mut connection = program.connect();
    for path in ["/", "/nothing", "/panic"] {
        let answer = get(&mut connection, path, "x-request-id: mine\r\n");
        assert_eq!(answer.header("x-request-id"), Some("mine"), "{path}");
    }
    let mut new = || {
        let answer = get(&mut connection, "/", "");
        answer.header("x-request-id").expect("the server sets an id").to_owned()
    };
    assert_ne!(new(), new());
}

#[test]
fn long_bodies_are_compressed_for_clients_that_accept_it() {
    let program = Program::start("tower");
    let mut connection = program.connect();
    let gzip = "accept-encoding: gzip\r\n";
    let plain = get(&mut connection, "/long", "");
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.text(), "Hello, World!\n".repeat(5));
    let packed = get(&mut connection, "/long", gzip);
    assert_eq!(packed.header("content-encoding"), Some("gzip"), "{}", packed.head);
    assert_eq!(packed.body[..2], [0x1f, 0x8b], "gzip begins so");
    assert!(packed.body.len() < plain.body.len());
    let small = get(&mut connection, "/", gzip);
    assert_eq!(small.header("content-encoding"), None);
    assert_eq!(small.text(), "Hello, World!\n");
}

#[test]
fn a_panic_is_answered_and_the_connection_goes_on() {
    let program = Program::start("tower");
    let mut connection = program.connect();
    connection.get("/panic");
    let answer = connection
        .response()
        .expect("a panic is answered: is CatchPanicLayer in the stack?");
    assert_eq!(answer.status(), "HTTP/1.1 500 Internal Server Error");
    assert!(
        answer.header("x-request-id").is_some(),
        "no request id in {}",
        answer.head
    );
    assert_eq!(get(&mut connection, "/", "").text(), "Hello, World!\n");
}

#[test]
fn a_full_server_answers_503_at_once_and_recovers() {
    let program = Program::start("tower");
    let mut probe = program.connect();
    // Slow requests in batches, of which the newest are kept.
    let mut slow: VecDeque<Vec<Connection>> = VecDeque::new();
    let mut full = None;
    wait("a server that is full", || {
        let batch = (0..work()).map(|_| {
            let mut connection = program.connect();
            connection.get("/slow");
            connection
        });
        slow.push_front(batch.collect());
        slow.truncate(3);
        let answer = get(&mut probe, "/", "");
        full = answer.status().contains("503").then_some(answer);
        full.is_some()
    });
    let full = full.expect("it was full");
    assert_eq!(full.status(), "HTTP/1.1 503 Service Unavailable");
    assert!(full.header("x-request-id").is_some(), "no request id in {}", full.head);
    for mut connection in slow.into_iter().flatten() {
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), "HTTP/1.1 503 Service Unavailable");
    }
    assert_eq!(get(&mut probe, "/", "").text(), "Hello, World!\n");
}

// On an in-memory connection, with a clock that stands still while there is work to do.

/// A connection to a service.
fn serve<S, B>(service: S) -> DuplexStream
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: std::error::Error + Send + Sync,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (client, server) = duplex(64 * 1024);
    let conn = http1::Builder::new()
        .serve_connection(TokioIo::new(server), TowerToHyperService::new(service));
    tokio::spawn(async move { conn.await.ok() });
    client
}

/// hyper's client on a connection to a service.
async fn client<S, B>(service: S) -> SendRequest<Empty<Bytes>>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: std::error::Error + Send + Sync,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (client, conn) = handshake(TokioIo::new(serve(service))).await.unwrap();
    tokio::spawn(conn);
    client
}

/// Sends a request, each from a connection to one of these services, all at the same time. The
/// statuses, and after how many seconds they came.
async fn at_once<S, B>(services: Vec<S>) -> Vec<(StatusCode, u64)>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: std::error::Error + Send + Sync,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let start = Instant::now();
    let mut requests = Vec::new();
    for service in services {
        let mut client = client(service).await;
        requests.push(tokio::spawn(async move {
            let response = client.send_request(Request::default()).await.unwrap();
            (response.status(), start.elapsed().as_secs())
        }));
    }
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.unwrap());
    }
    answers
}

fn count(answers: &[(StatusCode, u64)], status: u16) -> usize {
    answers.iter().filter(|(answer, _)| answer.as_u16() == status).count()
}

/// How many handlers are at work, and the most that were.
#[derive(Clone, Default)]
struct AtWork(Arc<(AtomicUsize, AtomicUsize)>);

impl AtWork {
    /// A handler that works for a second.
    async fn handle(
        self,
        _: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
        sleep(Duration::from_secs(1)).await;
        now.fetch_sub(1, Relaxed);
        Ok(Response::default())
    }

    fn stack(&self) -> program::Stack {
        let at_work = self.clone();
        program::stack(service_fn(move |request| at_work.clone().handle(request)))
    }

    fn most(&self) -> usize {
        self.0.1.load(Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn one_stack_has_one_limit_over_all_connections() {
    let at_work = AtWork::default();
    let stack = at_work.stack();
    let answers = at_once(vec![stack.clone(); work() + 5]).await;
    assert_eq!(at_work.most(), work(), "the most handlers at once");
    let (served, refused) = (count(&answers, 200), count(&answers, 503));
    assert_eq!((served, refused), (work(), 5), "{answers:?}");
    // Those are refused at once.
    assert!(
        answers.iter().all(|(status, after)| *after == u64::from(*status == 200))
    );
    // Then the places are free again.
    assert_eq!(count(&at_once(vec![stack; work()]).await, 200), work());
}

#[tokio::test(start_paused = true)]
async fn a_stack_for_each_connection_has_no_limit() {
    let at_work = AtWork::default();
    let stacks = (0..work() + 5).map(|_| at_work.stack()).collect();
    assert_eq!(count(&at_once(stacks).await, 200), work() + 5);
    assert_eq!(at_work.most(), work() + 5);
}

#[tokio::test(start_paused = true)]
async fn a_global_layer_has_one_limit_over_several_services() {
    for (global, most) in [(true, 2), (false, 6)] {
        let at_work = AtWork::default();
        let (one, each) =
            (GlobalConcurrencyLimitLayer::new(2), ConcurrencyLimitLayer::new(2));
        let services = (0..6).map(|_| {
            let at_work = at_work.clone();
            let handler = service_fn(move |request| at_work.clone().handle(request));
            if global { one.layer(handler) } else { each.layer(handler) }
        });
        at_once(services.collect()).await;
        assert_eq!(at_work.most(), most, "global: {global}");
    }
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_answered_for_and_dropped() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let guard = dropped.clone();
    let stack = program::stack(service_fn(move |_| {
        let guard = Dropped(guard.clone());
        async move {
            sleep(Duration::from_secs(3600)).await;
            drop(guard);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    }));
    let answers = at_once(vec![stack]).await;
    assert_eq!(answers, [(StatusCode::SERVICE_UNAVAILABLE, seconds())]);
    assert_eq!(dropped.load(Relaxed), 1, "the handler is dropped");
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_covers_a_request_body_that_the_handler_reads() {
    let stack = program::stack(service_fn(async |request: Request<Incoming>| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    }));
    let mut stream = serve(stack);
    let start = Instant::now();
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhi")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(start.elapsed().as_secs(), seconds());
    // The connection has ended, and the answer does not say so.
    assert!(!answer.contains("connection: close"), "{answer}");
}

/// A body that never ends.
#[derive(Default)]
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_body_takes_no_place_and_has_no_time_limit() {
    let stack = program::stack(service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Endless))
    }));
    let mut bodies = Vec::new();
    for _ in 0..work() + 5 {
        let mut client = client(stack.clone()).await;
        let response = client.send_request(Request::default()).await.unwrap();
        assert_eq!(response.status(), 200);
        bodies.push((client, response));
    }
    let body = bodies[0].1.body_mut().frame();
    let day = Duration::from_secs(86_400);
    assert!(tokio::time::timeout(day, body).await.is_err(), "it goes on");
}

/// A body with a bug.
struct Buggy;

impl Body for Buggy {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a bug in a body")
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_response_body_ends_the_connection() {
    let stack = program::stack(service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Buggy))
    }));
    let mut stream = serve(stack);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.ends_with("0\r\n\r\n"), "no whole answer: {answer:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_layer_is_the_outermost() {
    let sign = |name: &'static str| {
        move |mut request: Request<Incoming>| {
            request.headers_mut().append("passed", name.parse().unwrap());
            request
        }
    };
    let back = |name: &'static str| {
        move |mut response: Response<Empty<Bytes>>| {
            response.headers_mut().append("passed", name.parse().unwrap());
            response
        }
    };
    let service = ServiceBuilder::new()
        .map_request(sign("top"))
        .map_response(back("top"))
        .map_request(sign("bottom"))
        .map_response(back("bottom"))
        .service_fn(async |request: Request<Incoming>| {
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.headers_mut() = request.headers().clone();
            Ok::<_, Infallible>(response)
        });
    let response =
        client(service).await.send_request(Request::default()).await.unwrap();
    let passed: Vec<_> = response.headers().get_all("passed").iter().collect();
    assert_eq!(passed, ["top", "bottom", "bottom", "top"]);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_does_not_cover_the_wait_for_a_place() {
    let limit = TimeoutLayer::with_status_code(
        StatusCode::SERVICE_UNAVAILABLE,
        Duration::from_secs(2),
    );
    let slow = async |_: Request<Incoming>| {
        sleep(Duration::from_secs(3600)).await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    };
    let one = ConcurrencyLimitLayer::new(1);
    let above =
        ServiceBuilder::new().layer(limit).layer(one.clone()).service_fn(slow);
    let below =
        ServiceBuilder::new().layer(one.clone()).layer(limit).service_fn(slow);
    let expected =
        [(StatusCode::SERVICE_UNAVAILABLE, 2), (StatusCode::SERVICE_UNAVAILABLE, 4)];
    assert_eq!(at_once(vec![above.clone(), above]).await, expected);
    assert_eq!(at_once(vec![below.clone(), below]).await, expected);
    // Above a call that includes the wait it covers both.
    let limited = ServiceBuilder::new().layer(one).service_fn(slow);
    let upper = ServiceBuilder::new()
        .layer(limit)
        .service_fn(move |request| limited.clone().oneshot(request));
    let expected = [(StatusCode::SERVICE_UNAVAILABLE, 2); 2];
    assert_eq!(at_once(vec![upper.clone(), upper]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_closes_the_connection_without_an_answer() {
    let service = service_fn(async |_: Request<Incoming>| {
        Err::<Response<Empty<Bytes>>, _>(io::Error::other("overloaded"))
    });
    let mut stream = serve(service);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_resets_its_http2_stream_alone() {
    let service =
        service_fn(async |request: Request<Incoming>| match request.uri().path() {
            "/fail" => Err(io::Error::other("overloaded")),
            _ => Ok(Response::new(Empty::<Bytes>::new())),
        });
    let (client, server) = duplex(64 * 1024);
    let conn = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), TowerToHyperService::new(service));
    tokio::spawn(async move { conn.await.ok() });
    let (mut client, conn) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(conn);
    let request = |path: &str| {
        let uri = format!("http://x{path}");
        Request::get(uri).body(Empty::<Bytes>::new()).unwrap()
    };
    let error = client.send_request(request("/fail")).await.unwrap_err();
    let reset = std::error::Error::source(&error).unwrap().to_string();
    assert!(reset.contains("stream error"), "{reset}");
    assert_eq!(client.send_request(request("/")).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_makes_a_service_clone() {
    let service = ServiceBuilder::new()
        .map_err(io::Error::other::<BoxError>)
        .buffer(100)
        .rate_limit(2, Duration::from_secs(1))
        .service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
    let mut answers = at_once(vec![service; 3]).await;
    answers.sort_by_key(|(_, after)| *after);
    let ok = StatusCode::OK;
    assert_eq!(answers, [(ok, 0), (ok, 0), (ok, 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_deprecated_time_limit_sends_408() {
    #[expect(deprecated)]
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(2)))
        .service_fn(async |_: Request<Incoming>| {
            sleep(Duration::from_secs(3600)).await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
    assert_eq!(at_once(vec![service]).await, [(StatusCode::REQUEST_TIMEOUT, 2)]);
}

#[tokio::test(start_paused = true)]
async fn bodies_under_the_least_size_are_not_compressed() {
    let least = tower().number("By default bodies under {} bytes are not") as usize;
    for (size, compressed) in [(least - 1, false), (least, true)] {
        let stack =
            program::stack(service_fn(move |_: Request<Incoming>| async move {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(vec![
                    b'.';
                    size
                ])))
            }));
        let request =
            Request::get("/").header("accept-encoding", "gzip").body(Empty::new());
        let response =
            client(stack).await.send_request(request.unwrap()).await.unwrap();
        let encoding = response.headers().get("content-encoding");
        assert_eq!(encoding.is_some(), compressed, "{size} bytes");
    }
}
