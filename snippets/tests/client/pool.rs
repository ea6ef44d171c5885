//! What src/client/pool.md promises.

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::CONNECTION;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{
    Connect, HttpConnector, capture_connection,
};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{self, Instant, sleep, timeout};

use harness::{LIMIT, Program, Prose, Server, page, wait};

use super::failures::Memory;
use crate::server::upgrades::read_head;

/// The program itself, for its settings and its limits.
#[allow(dead_code)]
#[path = "../../client/pool.rs"]
mod program;

type NoBody = Empty<Bytes>;
type Pooled = Client<Network, NoBody>;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn prose() -> Prose {
    page("client/pool")
}

// A network in memory: it counts connections, and tests hold its connects and its answers.

#[derive(Clone)]
pub struct Network(Arc<State>);

pub struct State {
    /// Connects that were asked for.
    asked: AtomicUsize,
    opened: AtomicUsize,
    closed: AtomicUsize,
    /// Connections that carried a request.
    used: AtomicUsize,
    /// Requests for /held that have not been answered.
    held: AtomicUsize,
    /// A connect needs a permit, and so does an answer to /held.
    connects: Semaphore,
    answers: Semaphore,
    /// Whether a connect fails.
    refuse: AtomicBool,
    /// Ends all connections.
    stop: Notify,
    /// Whether connections say that HTTP/2 was negotiated.
    h2: bool,
}

impl Network {
    pub fn new(h2: bool) -> Network {
        Network(Arc::new(State {
            asked: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            connects: Semaphore::new(1_000),
            answers: Semaphore::new(0),
            refuse: AtomicBool::new(false),
            stop: Notify::new(),
            h2,
        }))
    }

    pub fn opened(&self) -> usize {
        self.0.opened.load(SeqCst)
    }

    /// Lets no connect end before `add_permits`.
    pub fn hold_connects(&self) {
        self.0.connects.forget_permits(self.0.connects.available_permits());
    }

    pub fn allow_connects(&self, count: usize) {
        self.0.connects.add_permits(count);
    }

    /// Ends all connections.
    pub fn stop(&self) {
        self.0.stop.notify_waiters();
    }

    /// Waits until so many connects were asked for.
    pub async fn asked(&self, count: usize) {
        until("connects", || self.0.asked.load(SeqCst) == count).await;
    }

    /// Connections that carried a request.
    pub fn used(&self) -> usize {
        self.0.used.load(SeqCst)
    }

    /// Answers so many requests for /held.
    pub fn answer_held(&self, count: usize) {
        self.0.answers.add_permits(count);
    }

    pub fn closed(&self) -> usize {
        self.0.closed.load(SeqCst)
    }

    /// Sends requests for this path, all at once.
    fn send<C>(&self, client: &Client<C, NoBody>, count: usize, url: &str) -> Requests
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        let mut requests = JoinSet::new();
        for _ in 0..count {
            let (client, url) = (client.clone(), url.to_owned());
            requests.spawn(async move { get(&client, &url).await });
        }
        requests
    }

    /// Waits until so many requests for /held are here.
    pub async fn held(&self, count: usize) {
        let what = format!("{count} requests at the server");
        until(&what, || self.0.held.load(SeqCst) == count).await;
    }

    /// Answers all requests for /held, and waits for the answers.
    async fn release(&self, requests: Requests) {
        self.0.answers.add_permits(requests.len());
        for text in timeout(LIMIT, requests.join_all()).await.expect("answers") {
            assert_eq!(text.as_deref(), Ok("hello"));
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        if request.uri().path() == "/held" {
            self.0.held.fetch_add(1, SeqCst);
            self.0.answers.acquire().await.unwrap().forget();
            self.0.held.fetch_sub(1, SeqCst);
        }
        if request.uri().path() == "/stalls" {
            return Ok(Response::new(Stalls(true).boxed()));
        }
        let mut response = Response::new(Full::from("hello").boxed());
        if request.uri().path() == "/close" {
            response.headers_mut().insert(CONNECTION, "close".parse().unwrap());
        }
        Ok(response)
    }
}

type Requests = JoinSet<Result<String, String>>;

/// The connector of that network.
impl tower_service::Service<Uri> for Network {
    type Response = Memory;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Memory>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let network = self.clone();
        Box::pin(async move {
            network.0.asked.fetch_add(1, SeqCst);
            network.0.connects.acquire().await.unwrap().forget();
            if network.0.refuse.load(SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            network.0.opened.fetch_add(1, SeqCst);
            let (client, server) = Memory::negotiated(network.0.h2);
            tokio::spawn(async move {
                let unused = AtomicBool::new(true);
                let service = service_fn(|request| {
                    if unused.swap(false, SeqCst) {
                        network.0.used.fetch_add(1, SeqCst);
                    }
                    network.clone().answer(request)
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let stop = network.0.stop.notified();
                tokio::select! {
                    _ = builder.serve_connection(TokioIo::new(server), service) => {}
                    () = stop => {}
                }
                network.0.closed.fetch_add(1, SeqCst);
            });
            Ok(client)
        })
    }
}

/// A body that sends one piece and then nothing.
struct Stalls(bool);

impl Body for Stalls {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.0 {
            return Poll::Pending;
        }
        self.0 = false;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from("piece")))))
    }
}

fn builder() -> legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    builder
}

/// The text of a response, or its error with all causes.
async fn get<C>(client: &Client<C, NoBody>, url: &str) -> Result<String, String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response =
        client.get(url.parse().unwrap()).await.map_err(|error| report(&error))?;
    let body =
        response.into_body().collect().await.map_err(|error| report(&error))?;
    Ok(String::from_utf8(body.to_bytes().into()).unwrap())
}

fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Waits, on the clock of tokio.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

// Reuse.

#[tokio::test]
async fn sequential_requests_share_one_connection() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let count = prose().number("{} requests one after the other need one connection");
    for _ in 0..count {
        get(&client, "http://a.test/").await.unwrap();
    }
    assert_eq!(network.opened(), 1, "{count} requests in a row share a connection");
}

#[tokio::test]
async fn parallel_requests_have_a_connection_each_which_the_pool_keeps() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let numbers =
        prose().numbers::<2>("{} requests at once open {} connections, and the pool");
    let count = numbers[0] as usize;
    for _round in 0..2 {
        let requests = network.send(&client, count, "http://a.test/held");
        network.held(count).await;
        network.release(requests).await;
    }
    assert_eq!(network.opened() as u64, numbers[1], "without a limit");
    assert_eq!(network.closed(), 0, "all stay open");
}

#[tokio::test]
async fn connection_close_ends_reuse() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    for _ in 0..3 {
        get(&client, "http://a.test/close").await.unwrap();
    }
    assert_eq!(network.opened(), 3, "the server says close");
    for _ in 0..2 {
        let request = Request::get("http://a.test/").header(CONNECTION, "close");
        let request = request.body(NoBody::new()).unwrap();
        let response = client.request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(network.opened(), 5, "the client says close");
    until("the end of all", || network.closed() == 5).await;
}

#[tokio::test]
async fn the_host_has_no_port_that_is_that_of_the_scheme() {
    prose().says("without the port if it is that of the scheme. One that you set stays as it is.");
    let other = "http://a.test:8080/";
    for (url, set, host) in [
        ("http://a.test/", None, "a.test"),
        ("http://a.test:80/", None, "a.test"),
        ("https://a.test:443/", None, "a.test"),
        ("http://a.test:443/", None, "a.test:443"),
        (other, None, "a.test:8080"),
        (other, Some("b.test:80"), "b.test:80"),
    ] {
        let (io, mut server) = Memory::pair();
        let io = Arc::new(Mutex::new(Some(io)));
        let connector = tower::service_fn(move |_: Uri| {
            std::future::ready(Ok::<_, io::Error>(io.lock().unwrap().take().unwrap()))
        });
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let mut request = Request::get(url);
        if let Some(set) = set {
            request = request.header("host", set);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let asked = tokio::spawn(async move { client.request(request).await.map(drop) });
        let head = read_head(&mut server).await;
        assert_eq!(head, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), "{url}");
        asked.abort();
    }
}

#[tokio::test]
async fn the_key_is_scheme_host_and_port() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let same = ["http://a.test/", "http://a.test/path?query", "http://A.test/"];
    for url in same {
        get(&client, url).await.unwrap();
    }
    assert_eq!(network.opened(), 1, "path, query and case are not in the key");
    let others = [
        "http://a.test:80/",
        "http://a.test:81/",
        "http://b.test/",
        "http://127.0.0.1/",
        "http://user@a.test/",
        "https://a.test/",
    ];
    for url in others {
        get(&client, url).await.unwrap();
    }
    assert_eq!(network.opened(), 1 + others.len(), "each of these is a key");
}

#[tokio::test]
async fn a_closed_idle_connection_is_replaced_without_an_error() {
    let client = builder().build_http();
    let server = Server::start();
    let url = server.url("/");
    let closed = Arc::new(AtomicUsize::new(0));
    thread::spawn({
        let closed = closed.clone();
        move || {
            loop {
                let mut connection = server.accept();
                connection.head().unwrap();
                connection.send(HELLO);
                drop(connection);
                closed.fetch_add(1, SeqCst);
            }
        }
    });
    for round in 1..=3 {
        assert_eq!(get(&client, &url).await.as_deref(), Ok("hello"));
        until("the close", || closed.load(SeqCst) == round).await;
        // The client has to read the close: a request that crosses it fails.
        sleep(Duration::from_millis(10)).await;
    }
}

// One connection too many.

#[tokio::test]
async fn a_request_that_waits_for_a_connection_starts_a_connect_as_well() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let first = network.send(&client, 1, "http://a.test/held");
    network.held(1).await;
    // The second connect does not end before the first request does.
    network.hold_connects();
    let second = network.send(&client, 1, "http://a.test/");
    network.asked(2).await;
    network.release(first).await;
    network.release(second).await;
    assert_eq!(network.opened(), 1, "the second request has the first connection");
    network.0.connects.add_permits(1);
    until("the spare connection", || network.opened() == 2).await;
    let used = network.0.used.load(SeqCst);
    assert_eq!((used, network.closed()), (1, 0), "it is open, and nobody used it");
}

/// hyper#3199.
#[tokio::test]
async fn a_dropped_request_takes_those_with_it_that_wait_for_its_connection() {
    page("reference/errors").says("or it was dropped, for example by a time limit");
    let network = Network::new(true);
    network.hold_connects();
    let client: Pooled = builder().http2_only(true).build(network.clone());
    let first = network.send(&client, 1, "http://a.test/");
    network.asked(1).await;
    let mut second = network.send(&client, 1, "http://a.test/");
    for _ in 0..100 {
        yield_now().await;
    }
    assert!(second.try_join_next().is_none(), "it waits");
    drop(first);
    let end = timeout(LIMIT, second.join_next()).await.expect("an end").unwrap();
    let error = end.unwrap().unwrap_err();
    assert_eq!(error, "client error (Connect): request was canceled");
    // The next one asks for a connection of its own.
    let third = network.send(&client, 1, "http://a.test/");
    network.allow_connects(2);
    network.release(third).await;
}

#[tokio::test]
async fn the_request_fails_if_its_connect_fails_first() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let first = network.send(&client, 1, "http://a.test/held");
    network.held(1).await;
    network.0.refuse.store(true, SeqCst);
    let error = get(&client, "http://a.test/").await.unwrap_err();
    assert_eq!(error, "client error (Connect): connection refused");
    network.release(first).await;
    assert_eq!(get(&client, "http://a.test/").await.as_deref(), Ok("hello"));
}

// Time.

/// How long after its last use the connection is closed, if it was used for this long.
async fn idle(builder: &legacy::Builder, used: Duration) -> Duration {
    let network = Network::new(false);
    let client = builder.build(network.clone());
    get(&client, "http://a.test/").await.unwrap();
    sleep(used).await;
    get(&client, "http://a.test/").await.unwrap();
    let last = Instant::now();
    while network.closed() == 0 {
        sleep(Duration::from_millis(500)).await;
        assert!(last.elapsed() < Duration::from_secs(600), "the pool closes it");
    }
    assert_eq!(network.opened(), 1);
    last.elapsed()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn with_a_pool_timer_idle_connections_are_closed() {
    let [once, twice] =
        prose().numbers::<2>("It closes one after {} seconds by default, at most {}");
    assert_eq!(once, prose().number("pool_idle_timeout | {} s |"));
    let once = Duration::from_secs(once);
    assert_eq!(2 * once, Duration::from_secs(twice));
    for used in [0, 1, 45, 89] {
        let after = idle(&builder(), Duration::from_secs(used)).await;
        let range = once..2 * once + Duration::from_secs(1);
        assert!(range.contains(&after), "closed after {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_program_closes_them_sooner() {
    let limit = Duration::from_secs(
        prose()
            .number("The program keeps them for {} seconds, at most twice as long"),
    );
    let after = idle(&program::builder(), Duration::from_secs(1)).await;
    let range = limit..2 * limit + Duration::from_secs(1);
    assert!(range.contains(&after), "closed after {after:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_pool_timer_they_stay() {
    let network = Network::new(false);
    let client = Client::builder(TokioExecutor::new()).build(network.clone());
    get(&client, "http://a.test/").await.unwrap();
    sleep(DAY).await;
    assert_eq!(network.closed(), 0);
}

#[tokio::test]
async fn without_a_pool_timer_the_next_request_drops_what_is_too_old() {
    let network = Network::new(false);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(Duration::from_millis(100));
    let client = builder.build(network.clone());
    get(&client, "http://a.test/").await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(network.closed(), 0, "nobody looks");
    get(&client, "http://a.test/").await.unwrap();
    until("the end of the old connection", || network.closed() == 1).await;
    assert_eq!(network.opened(), 2);
}

// Settings.

#[tokio::test]
async fn max_idle_per_host_bounds_what_is_kept_not_what_is_opened() {
    let [max, count, opened, closed] = prose().numbers::<4>(
        "With pool_max_idle_per_host({}), {} requests at once open {} connections, and {} of them are closed",
    );
    let network = Network::new(false);
    let client =
        builder().pool_max_idle_per_host(max as usize).build(network.clone());
    let requests = network.send(&client, count as usize, "http://a.test/held");
    network.held(count as usize).await;
    network.release(requests).await;
    assert_eq!(network.opened() as u64, opened);
    let rest = || network.closed() as u64 == closed;
    until("the end of the others", rest).await;
    sleep(Duration::from_millis(20)).await;
    assert!(rest(), "the others stay");
}

#[tokio::test]
async fn max_idle_per_host_0_is_no_pool() {
    let network = Network::new(false);
    let client = builder().pool_max_idle_per_host(0).build(network.clone());
    for _ in 0..3 {
        get(&client, "http://a.test/").await.unwrap();
    }
    assert_eq!(network.opened(), 3);
    until("the end of all", || network.closed() == 3).await;
}

#[tokio::test]
async fn the_last_clone_closes_idle_connections_and_no_others() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let clone = client.clone();
    let held = network.send(&client, 1, "http://a.test/held");
    network.held(1).await;
    get(&client, "http://a.test/").await.unwrap();
    drop(client);
    get(&clone, "http://a.test/").await.unwrap();
    assert_eq!((network.opened(), network.closed()), (2, 0), "clones share the pool");
    drop(clone);
    // The task of the held request has a clone, too, until it is answered.
    network.release(held).await;
    until("the end of both", || network.closed() == 2).await;
}

#[tokio::test]
async fn a_body_goes_on_without_its_client() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let response =
        client.get(Uri::from_static("http://a.test/stalls")).await.unwrap();
    drop(client);
    let mut body = response.into_body();
    let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!((&piece[..], network.closed()), (&b"piece"[..], 0));
}

// Bodies.

#[tokio::test]
async fn an_unread_body_costs_the_connection() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    for _ in 0..3 {
        let url = Uri::from_static("http://a.test/stalls");
        drop(client.get(url).await.unwrap());
    }
    assert_eq!(network.opened(), 3, "the rest of each body was still to come");
    until("the end of all", || network.closed() == 3).await;
}

#[tokio::test]
async fn an_unread_body_that_has_arrived_may_not() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    for _ in 0..3 {
        drop(client.get(Uri::from_static("http://a.test/")).await.unwrap());
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(network.opened(), 1, "each body came with its head");
}

#[tokio::test]
async fn a_response_that_is_held_keeps_its_connection() {
    let network = Network::new(false);
    let client: Pooled = builder().build(network.clone());
    let held = client.get(Uri::from_static("http://a.test/stalls")).await.unwrap();
    get(&client, "http://a.test/").await.unwrap();
    assert_eq!((network.opened(), network.closed()), (2, 0));
    drop(held);
}

// HTTP/2.

#[tokio::test]
async fn http2_only_needs_one_connection() {
    let network = Network::new(false);
    let client = builder().http2_only(true).build(network.clone());
    let count =
        prose().number("With http2_only(true), {} requests at once share one");
    let requests = network.send(&client, count as usize, "http://a.test/held");
    network.held(count as usize).await;
    network.release(requests).await;
    assert_eq!(network.opened(), 1);
}

#[tokio::test]
async fn negotiated_http2_opens_connections_that_it_does_not_use() {
    let network = Network::new(true);
    let client: Pooled = builder().build(network.clone());
    let [count, opened] = prose()
        .numbers::<2>("{} requests at once to a new server open {} TCP connections");
    let count = count as usize;
    // No connect ends before all have begun.
    network.hold_connects();
    let requests = network.send(&client, count, "https://a.test/held");
    network.asked(count).await;
    network.0.connects.add_permits(1_000);
    network.held(count).await;
    network.release(requests).await;
    assert_eq!(network.opened() as u64, opened);
    assert_eq!(network.0.used.load(SeqCst), 1, "and use one of them");
    until("the end of the others", || network.closed() == count - 1).await;
    let requests = network.send(&client, count, "https://a.test/held");
    network.held(count).await;
    network.release(requests).await;
    assert_eq!(network.opened(), count, "once it is there, they share it");
}

/// One of them, or a few: the first connections may be ready at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_several_threads_few_of_those_connections_are_used() {
    let network = Network::new(true);
    let client: Pooled = builder().build(network.clone());
    let requests = network.send(&client, 100, "https://a.test/held");
    network.held(100).await;
    network.release(requests).await;
    let (used, opened) = (network.used(), network.opened());
    assert!(used < 10 && used <= opened, "{used} of {opened} were used");
}

#[tokio::test]
async fn one_request_first_avoids_that() {
    let network = Network::new(true);
    let client: Pooled = builder().build(network.clone());
    get(&client, "https://a.test/").await.unwrap();
    let requests = network.send(&client, 100, "https://a.test/held");
    network.held(100).await;
    network.release(requests).await;
    assert_eq!(network.opened(), 1);
}

// Which connection.

#[tokio::test]
async fn a_poisoned_connection_is_not_used_again() {
    for h2 in [false, true] {
        let network = Network::new(h2);
        let client: Pooled = builder().build(network.clone());
        for opened in 1..=3 {
            let mut request = Request::new(NoBody::new());
            *request.uri_mut() = Uri::from_static("http://a.test/");
            let captured = capture_connection(&mut request);
            assert!(captured.connection_metadata().is_none(), "none so far");
            let response = client.request(request).await.unwrap();
            captured.connection_metadata().as_ref().unwrap().poison();
            response.into_body().collect().await.unwrap();
            assert_eq!(network.opened(), opened);
        }
    }
}

#[tokio::test]
async fn after_a_time_limit_http2_uses_the_connection_again_unless_it_is_poisoned() {
    let network = Network::new(true);
    let client: Pooled = builder().build(network.clone());
    for (poison, opened) in [(false, 1), (true, 2)] {
        let mut request = Request::new(NoBody::new());
        *request.uri_mut() = Uri::from_static("https://a.test/held");
        let captured = capture_connection(&mut request);
        let limit = Duration::from_millis(50);
        timeout(limit, client.request(request)).await.expect_err("no answer");
        if poison {
            captured.connection_metadata().as_ref().unwrap().poison();
        }
        get(&client, "https://a.test/").await.unwrap();
        assert_eq!(network.opened(), opened, "poisoned: {poison}");
    }
}

#[tokio::test]
async fn a_connection_stays_at_the_address_where_it_was_opened() {
    let (a, b) = (named("a").await, named("b").await);
    let address = Arc::new(Mutex::new(a));
    let resolver = tower::service_fn({
        let address = address.clone();
        move |_: Name| {
            let address = *address.lock().unwrap();
            async move { Ok::<_, io::Error>([address].into_iter()) }
        }
    });
    let connector = HttpConnector::new_with_resolver(resolver);
    let client = builder().build(connector.clone());
    let url = "http://service.test/";
    assert_eq!(get(&client, url).await.as_deref(), Ok("a"));
    *address.lock().unwrap() = b;
    assert_eq!(get(&client, url).await.as_deref(), Ok("a"), "the name has changed");
    let client = builder().build(connector);
    assert_eq!(get(&client, url).await.as_deref(), Ok("b"), "a new client");
}

/// A server that answers with its name.
async fn named(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |_| async move {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(name)))
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                builder.serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    address
}

// Runtimes.

/// A runtime of one thread.
fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Makes a connection in this runtime, and puts it into the pool.
async fn fill(client: &Client<HttpConnector, NoBody>, url: &str) {
    assert_eq!(get(client, url).await.as_deref(), Ok("hello"));
    for _ in 0..10 {
        yield_now().await;
    }
}

#[test]
fn a_connection_dies_with_the_runtime_that_opened_it() {
    let server = Server::start();
    let client = builder().build_http();
    let url = server.url("/");
    let (filled, is_filled) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let one = thread::spawn({
        let (client, url) = (client.clone(), url.clone());
        move || {
            let runtime = current_thread();
            runtime.block_on(async {
                fill(&client, &url).await;
                filled.send(()).unwrap();
                stopped.await.ok();
            });
        }
    });
    let mut connection = server.accept();
    connection.head().unwrap();
    connection.send(HELLO);
    is_filled.recv_timeout(LIMIT).unwrap();
    let other = thread::spawn({
        let url = url.clone();
        move || current_thread().block_on(get(&client, &url))
    });
    connection.head().expect("the other runtime uses the connection");
    drop(stop);
    one.join().unwrap();
    let error = "client error (SendRequest): dispatch task is gone: \
                 runtime dropped the dispatch task";
    assert_eq!(other.join().unwrap(), Err(error.to_owned()));
}

#[test]
fn a_connection_hangs_if_its_runtime_does_not_run() {
    let server = Server::start();
    let client = builder().build_http();
    let url = server.url("/");
    let one = current_thread();
    let hand = thread::spawn(move || {
        let mut connection = server.accept();
        connection.head().unwrap();
        connection.send(HELLO);
        (server, connection)
    });
    one.block_on(fill(&client, &url));
    let (server, _connection) = hand.join().unwrap();
    let other = current_thread();
    let result = other.block_on(async {
        timeout(Duration::from_millis(300), get(&client, &url)).await
    });
    assert!(result.is_err(), "it waits for a task that nobody runs: {result:?}");
    assert!(server.try_accept().is_none(), "it has the connection of the other");
}

// The program.

/// Answers on each connection; the first `together` answers wait for one another.
fn answer(server: Server, together: usize, response: impl Into<String>) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let (all, response) = (seen.clone(), response.into());
    thread::spawn(move || {
        loop {
            let Some(mut connection) = server.try_accept() else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let (seen, response) = (all.clone(), response.clone());
            seen.connections.fetch_add(1, SeqCst);
            thread::spawn(move || {
                while connection.head().is_ok() {
                    let now = seen.now.fetch_add(1, SeqCst) + 1;
                    seen.most.fetch_max(now, SeqCst);
                    wait("as many requests at once as the page says", || {
                        seen.most.load(SeqCst) >= together
                    });
                    seen.now.fetch_sub(1, SeqCst);
                    connection.send(&response);
                }
            });
        }
    });
    seen
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[test]
fn the_program_sends_8_at_once() {
    let at_once = prose().number("at most {} requests at once") as usize;
    let server = Server::start();
    let url = server.url("/");
    let seen = answer(server, at_once, HELLO);
    let mut program = Program::client("pool", &[&url, "30"]);
    let (status, lines) = program.wait();
    assert!(status.success(), "{lines:?}");
    let line = format!("{url}: 200 OK, 5 bytes");
    assert_eq!(lines.iter().filter(|printed| **printed == line).count(), 30);
    assert_eq!(seen.most.load(SeqCst), at_once, "no more at once");
    assert_eq!(seen.connections.load(SeqCst), at_once);
    let last = format!("30 of 30 fetched; connections used: {at_once}");
    assert_eq!(lines.last(), Some(&last));
}

#[test]
fn the_program_reports_each_error_with_its_causes() {
    let server = Server::start();
    let (good, other) = (server.url("/"), Server::start());
    let refused = other.url("/");
    drop(other);
    answer(server, 0, HELLO);
    let urls = [&good, &refused, "https://a.test/", "/path", "http://[/"];
    let (status, mut lines) = Program::client("pool", &urls).wait();
    assert_eq!(status.code(), Some(1));
    assert_eq!(lines.pop().unwrap(), "1 of 5 fetched; connections used: 1");
    lines.sort();
    let mut expected = [
        format!("{good}: 200 OK, 5 bytes"),
        format!(
            "{refused}: client error (Connect): tcp connect error: \
             Connection refused (os error 111)"
        ),
        "https://a.test/: client error (Connect): invalid URL, scheme is not http"
            .to_owned(),
        "/path: client error (UserAbsoluteUriRequired)".to_owned(),
        "http://[/: invalid authority".to_owned(),
    ];
    expected.sort();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_program_bounds_the_size_of_a_body() {
    let server = Server::start();
    let url = server.url("/");
    let chunked = |size: usize| {
        let body = ".".repeat(size);
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{size:x}\r\n{body}\r\n0\r\n\r\n")
    };
    answer(server, 0, chunked(program::MAX_BODY + 1));
    let client = program::builder().build_http();
    let error = program::fetch(&client, &url).await.err().unwrap();
    assert_eq!(report(&*error), "length limit exceeded");
    let server = Server::start();
    let url = server.url("/");
    answer(server, 0, chunked(program::MAX_BODY));
    let fetched = program::fetch(&client, &url).await.unwrap();
    assert_eq!(fetched.body.len(), program::MAX_BODY);
}

#[tokio::test]
async fn the_program_bounds_the_time_of_a_request_and_its_body() {
    let limit = prose().number("Each has {} seconds in all");
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"] {
        let server = Server::start();
        let url = server.url("/");
        let seen = answer(server, 0, begun);
        let client = program::builder().build_http();
        let fetch = async move { program::fetch(&client, &url).await };
        let fetch: JoinHandle<_> = tokio::spawn(async {
            fetch.await.map(drop).map_err(|error| report(&*error))
        });
        until("the request", || seen.most.load(SeqCst) == 1).await;
        sleep(Duration::from_millis(20)).await;
        time::pause();
        time::advance(Duration::from_secs(limit - 1)).await;
        assert!(!fetch.is_finished(), "before {limit} seconds");
        time::advance(Duration::from_secs(1)).await;
        let result = timeout(Duration::from_secs(1), fetch).await;
        let result = result.expect("the limit covers the body").unwrap();
        assert_eq!(result, Err("deadline has elapsed".to_owned()));
        time::resume();
    }
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_sees_8_connections() {
    let (_folder, nginx, log) = nginx("");
    let at_once = prose().number("at most {} requests at once") as usize;
    let url = format!("http://{}/", nginx.address);
    let (status, lines) = Program::client("pool", &[&url, "30"]).wait();
    assert!(status.success(), "{lines:?}");
    wait("30 requests in the log", || log().len() == 30);
    let connections: HashSet<_> = log().into_iter().collect();
    assert!(connections.len() <= at_once, "{connections:?}");
    let last = format!("30 of 30 fetched; connections used: {}", connections.len());
    assert_eq!(lines.last(), Some(&last));
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_may_close_connections() {
    let (_folder, nginx, log) = nginx("keepalive_requests 2;");
    let url = format!("http://{}/", nginx.address);
    let (status, lines) = Program::client("pool", &[&url, "30"]).wait();
    assert!(status.success(), "{lines:?}");
    wait("30 requests in the log", || log().len() == 30);
    let connections: HashSet<_> = log().into_iter().collect();
    assert!(connections.len() >= 15, "two requests each: {connections:?}");
}

/// Starts nginx; the connections of the requests that it has logged.
fn nginx(more: &str) -> (tempfile::TempDir, Program, impl Fn() -> Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let http = format!(
        "log_format connection $connection;
         server {{
             listen 127.0.0.1:PORT; access_log requests.log connection; {more}
             location / {{ return 200 hello; }}
         }}"
    );
    let nginx = Program::nginx(folder.path(), &http);
    let file = folder.path().join("requests.log");
    let log = move || {
        let log = fs::read_to_string(&file).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    };
    (folder, nginx, log)
}
