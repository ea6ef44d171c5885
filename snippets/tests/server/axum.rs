//! What src/server/axum.md promises.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::Listener;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::{BoxError, Service, ServiceBuilder};

use crate::server::tower::program as stack;

use harness::{Connection, Program, Prose, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/axum.rs"]
mod program;

pub const DAY: Duration = Duration::from_secs(86_400);

fn axum() -> Prose {
    page("server/axum")
}

fn head() -> u64 {
    axum().number("the head of an HTTP/1 request | no time limit | {} seconds")
}

fn first_request() -> u64 {
    axum().number("a client that sends nothing | no time limit | {} seconds")
}

fn connections() -> usize {
    axum().number("connections at a time | no limit | {}") as usize
}

fn handler() -> u64 {
    axum().number("A handler has {} seconds")
}

fn peer() -> SocketAddr {
    ([192, 0, 2, 7], 4321).into()
}

// On the running program.

#[test]
fn clients_over_the_cap_wait_for_a_place() {
    // Without the cap there would be no descriptor for the last clients.
    let cap = connections();
    let mut program = Program::start_with_descriptors("axum", cap as u32 + 16);
    let ask = |connection: &mut Connection| {
        connection.get("/");
        assert_eq!(connection.response().unwrap().text(), "Hello, World!\n");
    };
    let mut first: Vec<Connection> = (0..cap).map(|_| program.connect()).collect();
    first.iter_mut().for_each(ask);
    let mut others: Vec<Connection> = (0..30).map(|_| program.connect()).collect();
    others.iter_mut().for_each(|connection| connection.get("/"));
    // Meanwhile a server without the cap accepts them.
    first.iter_mut().for_each(ask);
    drop(first);
    for connection in &mut others {
        assert_eq!(connection.response().unwrap().text(), "Hello, World!\n");
    }
    program.signal("TERM");
    let (_, lines) = program.wait();
    assert!(!lines.iter().any(|line| line.contains("accept failed")), "{lines:?}");
}

// On an in-memory connection, with a clock that stands still while there is work to do.

/// A connection to a router, as the program serves it.
fn start(router: Router) -> DuplexStream {
    let (client, server) = duplex(64 * 1024);
    tokio::spawn(program::serve(server, peer(), router));
    client
}

/// A listener of connections in memory.
struct Streams(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Streams {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        match self.0.recv().await {
            Some(stream) => (stream, peer()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(peer())
    }
}

/// Makes connections to a router that `axum::serve` serves.
pub fn axum_serve(router: Router) -> impl Fn() -> DuplexStream {
    let (sender, streams) = mpsc::unbounded_channel();
    tokio::spawn(axum::serve(Streams(streams), router).into_future());
    move || {
        let (client, server) = duplex(64 * 1024);
        sender.send(server).unwrap();
        client
    }
}

/// After how many seconds the server closes a connection on which it gets these bytes, None if it does
/// not within a day.
async fn closed(mut stream: DuplexStream, bytes: &str) -> Option<u64> {
    let start = Instant::now();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let end = timeout(DAY, stream.read_to_end(&mut Vec::new())).await;
    end.ok().map(|_| start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_finish_its_request_is_cut_off() {
    let connect = axum_serve(program::router());
    for (bytes, seconds) in [
        ("GET / HTTP/1.1\r\n", head()),
        ("", first_request()),
        ("P", first_request()),
    ] {
        let own = closed(start(program::router()), bytes).await;
        assert_eq!(own, Some(seconds), "{bytes:?}");
        assert_eq!(closed(connect(), bytes).await, None, "axum::serve, {bytes:?}");
    }
}

/// Sends a GET request: the status, the body, and after how many seconds the response came.
async fn ask(stream: DuplexStream, path: &str) -> (StatusCode, String, u64) {
    let start = Instant::now();
    let (mut client, conn) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(conn);
    let request = hyper::Request::get(path).body(Empty::<Bytes>::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let (status, after) = (response.status(), start.elapsed().as_secs());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned(), after)
}

#[tokio::test(start_paused = true)]
async fn a_handler_has_a_time_limit() {
    let (status, _, after) = ask(start(program::router()), "/slow").await;
    assert_eq!((status, after), (StatusCode::SERVICE_UNAVAILABLE, handler()));
}

#[tokio::test(start_paused = true)]
async fn handlers_see_the_address_of_the_client() {
    let (_, text, _) = ask(start(program::router()), "/ip").await;
    assert_eq!(text, "your address is 192.0.2.7\n");

    // By axum's own means.
    let mut make =
        program::router().into_make_service_with_connect_info::<SocketAddr>();
    let service = make.call(peer()).await.unwrap();
    let (client, server) = duplex(64 * 1024);
    tokio::spawn(async move {
        let service = TowerToHyperService::new(service);
        let builder = program::builder();
        builder.serve_connection(TokioIo::new(server), service).await.ok();
    });
    let (_, text, _) = ask(client, "/ip").await;
    assert_eq!(text, "your address is 192.0.2.7\n");
}

/// A router on hyper, without the program's closure.
fn bare(router: Router, upgrades: bool) -> DuplexStream {
    let (client, server) = duplex(64 * 1024);
    tokio::spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        let (io, service) = (TokioIo::new(server), TowerToHyperService::new(router));
        if upgrades {
            builder.serve_connection_with_upgrades(io, service).await.ok();
        } else {
            builder.serve_connection(io, service).await.ok();
        }
    });
    client
}

#[tokio::test(start_paused = true)]
async fn without_the_address_the_extractor_answers_500() {
    let says = "Missing request extension: Extension of type `axum::extract::connect_info::ConnectInfo<core::net::socket_addr::SocketAddr>` was not found.";
    axum().says(says);
    let (status, text, _) = ask(bare(program::router(), true), "/ip").await;
    assert_eq!(status, 500);
    assert!(text.starts_with(says), "{text}");
    // One of another type is not found either.
    let address = peer().ip();
    let other = program::router().layer(axum::Extension(ConnectInfo(address)));
    let (_, text, _) = ask(bare(other, true), "/ip").await;
    assert!(text.starts_with(says), "{text}");
}

/// A router whose handlers count how many are at work, and the most that were.
fn counting(most: &Arc<AtomicUsize>) -> Router {
    let now = Arc::new(AtomicUsize::new(0));
    let most = most.clone();
    let handler = move || async move {
        most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
        sleep(Duration::from_secs(1)).await;
        now.fetch_sub(1, Relaxed);
    };
    Router::new().route("/a", get(handler.clone())).route("/b", get(handler))
}

/// The most handlers at once, when three connections ask for each of two routes.
async fn most(
    layer: impl FnOnce(Router) -> Router,
    serve: impl FnOnce(Router) -> Box<dyn Fn() -> DuplexStream>,
) -> usize {
    let most = Arc::new(AtomicUsize::new(0));
    let connect = serve(layer(counting(&most)));
    let mut requests = Vec::new();
    for path in ["/a", "/b"].repeat(3) {
        let stream = connect();
        requests.push(tokio::spawn(ask(stream, path)));
    }
    for request in requests {
        assert_eq!(request.await.unwrap().0, 200);
    }
    most.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_on_routes_must_be_global() {
    let own = |router: Router| -> Box<dyn Fn() -> DuplexStream> {
        Box::new(move || start(router.clone()))
    };
    let axums = |router: Router| -> Box<dyn Fn() -> DuplexStream> {
        Box::new(axum_serve(router))
    };
    let each = |router: Router| router.layer(ConcurrencyLimitLayer::new(1));
    let global = |router: Router| router.layer(GlobalConcurrencyLimitLayer::new(1));
    assert_eq!(most(|router| each(router).with_state(()), own).await, 2, "a route");
    assert_eq!(most(each, own).await, 6, "a request");
    assert_eq!(most(each, axums).await, 6, "a route of a connection");
    assert_eq!(most(|router| each(router).with_state(()), axums).await, 2, "a route");
    assert_eq!(most(global, own).await, 1, "global");
    assert_eq!(most(global, axums).await, 1, "global");
}

#[tokio::test(start_paused = true)]
async fn a_limit_around_the_router_holds_for_all_routes() {
    let most = Arc::new(AtomicUsize::new(0));
    let stack = stack::stack(counting(&most).with_state(()));
    let mut requests = Vec::new();
    for path in ["/a", "/b"].repeat(stack::WORK) {
        let (client, server) = duplex(64 * 1024);
        let service = TowerToHyperService::new(stack.clone());
        tokio::spawn(async move {
            let builder = program::builder();
            builder.serve_connection(TokioIo::new(server), service).await.ok();
        });
        requests.push(tokio::spawn(ask(client, path)));
    }
    for request in requests {
        request.await.unwrap();
    }
    assert_eq!(most.load(Relaxed), stack::WORK);
}

#[tokio::test(start_paused = true)]
async fn errors_of_layers_become_responses() {
    let most = Arc::new(AtomicUsize::new(0));
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(async |_: BoxError| {
            StatusCode::SERVICE_UNAVAILABLE
        }))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(1));
    let router = counting(&most).layer(layers).with_state(());
    let (one, other) =
        tokio::join!(ask(start(router.clone()), "/a"), ask(start(router), "/b"));
    let mut statuses = [one.0.as_u16(), other.0.as_u16()];
    statuses.sort();
    assert_eq!(statuses, [200, 503]);
}

/// Asks for an upgrade; what comes of it in the handler.
async fn upgrade(connect: impl FnOnce(Router) -> DuplexStream) -> Result<(), String> {
    let (sender, result) = oneshot::channel();
    let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
    let router = Router::new().route(
        "/",
        get(async move |request: Request| {
            let sender = sender.lock().unwrap().take().unwrap();
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(request).await;
                sender
                    .send(upgraded.map(drop).map_err(|error| error.to_string()))
                    .ok();
            });
            (StatusCode::SWITCHING_PROTOCOLS, [("upgrade", "x")])
        }),
    );
    let mut stream = connect(router.with_state(()));
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        )
        .await
        .unwrap();
    timeout(DAY, result).await.expect("the upgrade has a result").unwrap()
}

#[tokio::test(start_paused = true)]
async fn upgrades_need_the_method_for_upgrades() {
    assert_eq!(upgrade(start).await, Ok(()));
    let text = "upgrade expected but low level API in use";
    axum().says(text);
    let error = upgrade(|router| bare(router, false)).await.unwrap_err();
    assert!(error.contains(text), "{error}");
}

#[tokio::test(start_paused = true)]
async fn http2_clients_may_ask_for_websockets() {
    let mut stream = start(program::router());
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the server sends its settings first");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let connect_protocol = [0, 8, 0, 0, 0, 1];
    assert!(
        settings.chunks(6).any(|setting| setting == connect_protocol),
        "the settings allow extended CONNECT: {settings:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn axum_stops_when_the_last_connection_has_ended_however_long_it_takes() {
    let router = Router::new().route("/", get(pending::<()>));
    let (sender, streams) = mpsc::unbounded_channel();
    let (mut client, server) = duplex(1024);
    sender.send(server).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = axum::serve(Streams(streams), router)
        .with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
    let mut serve = tokio::spawn(serve.into_future());
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    stop.send(()).unwrap();
    assert!(timeout(DAY, &mut serve).await.is_err(), "the request is still there");
    drop(client);
    timeout(DAY, serve).await.expect("without connections it ends").unwrap().unwrap();
}
