//! What src/client/pools.md promises.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, Uri, Version};
use hyper_util::client::pool::{cache, singleton::Singleton};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceExt, service_fn};

use harness::{LIMIT, Program, Prose, page};

use crate::server::tls::folder;

use super::failures::{Memory, read_head};
use super::https;
use super::pool::{Network, until};

/// The program itself, with its limits.
#[allow(dead_code)]
#[path = "../../client/pools.rs"]
mod program;

use program::{AT_ONCE, IDLE, Pools, TIDY, TOTAL, TRIES, fetch};

fn prose() -> Prose {
    page("client/pools")
}

fn url(text: &str) -> Uri {
    text.parse().unwrap()
}

/// Fetches the URL so many times at once.
fn at_once(pools: &Pools, count: usize, text: &str) -> JoinSet<Result<Version, String>> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (pools, url) = (pools.clone(), url(text));
        tasks.spawn(async move { get(&pools, url).await });
    }
    tasks
}

async fn get(pools: &Pools, url: Uri) -> Result<Version, String> {
    let result = fetch(pools, &url).await;
    result.map(|(version, _)| version).map_err(|error| program::report(&*error))
}

async fn all(tasks: JoinSet<Result<Version, String>>) -> Vec<Version> {
    let results = timeout(LIMIT, tasks.join_all()).await.expect("answers");
    results.into_iter().map(|result| result.unwrap()).collect()
}

/// Pools whose connections `serve` answers, and the number of those that were opened.
fn scripted<S, F>(serve: S) -> (Pools, Arc<AtomicUsize>)
where
    S: Fn(DuplexStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let connector = service_fn(move |_: Uri| {
        count.fetch_add(1, SeqCst);
        let (client, server) = Memory::pair();
        tokio::spawn(serve(server));
        std::future::ready(Ok::<_, io::Error>(client))
    });
    (Pools::new(connector), opened)
}

// HTTP/1: a cache.

#[tokio::test]
async fn requests_in_a_row_share_a_connection_and_those_at_once_do_not() {
    let network = Network::new(false);
    let pools = Pools::new(network.clone());
    for _ in 0..10 {
        let version = get(&pools, url("http://a.test/")).await.unwrap();
        assert_eq!(version, Version::HTTP_11);
    }
    assert_eq!(network.opened(), 1, "one after the other");

    let tasks = at_once(&pools, 5, "http://a.test/held");
    network.held(5).await;
    network.answer_held(5);
    all(tasks).await;
    assert_eq!(network.opened(), 5, "five at once");
}

#[tokio::test]
async fn a_request_takes_the_connection_that_another_one_returns() {
    let network = Network::new(false);
    let pools = Pools::new(network.clone());
    let first = at_once(&pools, 1, "http://a.test/held");
    network.held(1).await;
    network.hold_connects();
    let second = at_once(&pools, 1, "http://a.test/");
    network.asked(2).await;
    network.answer_held(1);
    all(first).await;
    all(second).await;
    assert_eq!(network.opened(), 1, "the second connect has not ended");

    network.allow_connects(1);
    until("the connect to end", || network.opened() == 2).await;
    let tasks = at_once(&pools, 2, "http://a.test/held");
    network.held(2).await;
    network.answer_held(2);
    all(tasks).await;
    let message = "with an executor, the connection of the race is in the pool";
    assert_eq!((network.opened(), network.used()), (2, 2), "{message}");
}

#[tokio::test]
async fn without_an_executor_the_connect_that_loses_is_cancelled() {
    prose().says("Without an executor its connect is cancelled.");
    let network = Network::new(false);
    let mut bare = cache::builder().build(network.clone());
    let url = url("http://a.test/");
    let first = bare.ready().await.unwrap().call(url.clone()).await.unwrap();
    network.hold_connects();
    let second = tokio::spawn(bare.ready().await.unwrap().call(url));
    network.asked(2).await;
    drop(first);
    timeout(LIMIT, second).await.unwrap().unwrap().unwrap();
    network.allow_connects(1);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(network.opened(), 1, "nobody waits for the second connect");
}

#[tokio::test]
async fn the_key_is_scheme_and_authority() {
    let network = Network::new(false);
    let pools = Pools::new(network.clone());
    let same = ["http://a.test/", "http://a.test/path?query", "http://A.test/"];
    for text in same {
        get(&pools, url(text)).await.unwrap();
    }
    assert_eq!(network.opened(), 1, "path, query and case are not in the key");
    for text in ["https://a.test/", "http://a.test:80/", "http://b.test/"] {
        get(&pools, url(text)).await.unwrap();
    }
    assert_eq!(network.opened(), 4, "each of these is a key");
}

#[tokio::test]
async fn a_server_sees_the_path_and_its_name() {
    let (pools, _) = scripted(|mut stream| async move {
        let mut head = vec![0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        assert!(head.starts_with("GET /path?query HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: a.test:81\r\n"), "{head}");
        stream.write_all(HELLO).await.unwrap();
    });
    get(&pools, url("http://user@a.test:81/path?query#top")).await.unwrap();
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// What the page says about a connection that is given back too early.
#[tokio::test]
async fn a_connection_that_returns_before_its_body_makes_the_next_request_wait() {
    let network = Network::new(false);
    let pools = Pools::new(network.clone());
    let mut early = pools.take(&url("http://a.test/stalls")).await.unwrap();
    let request = Request::get("http://a.test/stalls").body(Empty::<Bytes>::new());
    let response = early.ready().await.unwrap().call(request.unwrap()).await.unwrap();
    drop(early);

    let mut next = pools.take(&url("http://a.test/")).await.unwrap();
    assert_eq!(network.opened(), 1, "the cache gave out the busy connection");
    let waiting = timeout(Duration::from_millis(50), next.ready()).await.is_err();
    assert!(waiting, "the body of the other response has not ended");

    // The program holds its connection.
    drop((next, response));
    let stalled = at_once(&pools, 1, "http://a.test/stalls");
    until("a second connection", || network.used() == 2).await;
    // Now its head has come, and its body has not.
    sleep(Duration::from_millis(50)).await;
    let next = timeout(TOTAL / 4, get(&pools, url("http://a.test/"))).await;
    next.expect("it need not wait").unwrap();
    assert_eq!(network.opened(), 3, "the next request has a connection of its own");
    drop(stalled);
}

#[tokio::test]
async fn a_cancelled_request_costs_its_connection_and_no_other_request() {
    let network = Network::new(false);
    let pools = Pools::new(network.clone());
    let mut tasks = at_once(&pools, 1, "http://a.test/stalls");
    until("the request", || network.used() == 1).await;
    tasks.shutdown().await;
    get(&pools, url("http://a.test/")).await.unwrap();
    assert_eq!(network.opened(), 2);
    until("the end of the first", || network.closed() == 1).await;
}

// HTTP/2: a singleton.

#[tokio::test]
async fn http2_requests_share_one_connection_once_the_version_is_known() {
    let network = Network::new(true);
    let pools = Pools::new(network.clone());
    assert_eq!(get(&pools, url("https://a.test/")).await, Ok(Version::HTTP_2));
    let count = prose().number("{} requests at once share that connection") as usize;
    let tasks = at_once(&pools, count, "https://a.test/held");
    network.held(count).await;
    network.answer_held(count);
    assert_eq!(all(tasks).await, vec![Version::HTTP_2; count]);
    assert_eq!(network.opened(), 1);
}

#[tokio::test]
async fn before_that_each_request_opens_a_connection() {
    let network = Network::new(true);
    let pools = Pools::new(network.clone());
    let [count, opened, closed] = prose()
        .numbers(
            "{} requests at once to a new HTTP/2 server open {} connections; \
             the negotiator uses one and closes {} at once",
        )
        .map(|number| number as usize);
    network.hold_connects();
    let tasks = at_once(&pools, count, "https://a.test/");
    network.asked(count).await;
    network.allow_connects(count);
    assert_eq!(all(tasks).await, vec![Version::HTTP_2; count]);
    assert_eq!((network.opened(), network.used()), (opened, 1));
    until("the end of the others", || network.closed() == closed).await;
    sleep(Duration::from_millis(50)).await;
    let open = opened - closed;
    assert_eq!(network.closed(), closed, "{open} are left: the used one, and one in the slot");
    drop(pools);
    until("the end of both", || network.closed() == opened).await;
}

#[tokio::test]
async fn a_new_connection_replaces_one_that_has_ended() {
    let network = Network::new(true);
    let pools = Pools::new(network.clone());
    get(&pools, url("https://a.test/")).await.unwrap();
    network.stop();
    until("the end of the connection", || network.closed() == 1).await;
    get(&pools, url("https://a.test/")).await.unwrap();
    assert_eq!(network.opened(), 2);
}

// What the program adds.

#[tokio::test]
async fn idle_connections_that_the_server_closes_are_replaced_without_an_error() {
    let (pools, opened) = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(HELLO).await.unwrap();
    });
    for count in 1..=5 {
        get(&pools, url("http://a.test/")).await.unwrap();
        assert_eq!(opened.load(SeqCst), count);
    }
}

#[tokio::test]
async fn a_server_that_closes_each_connection_gets_a_bounded_number() {
    assert_eq!(prose().number("takes another one, {} in all"), TRIES as u64);
    let (pools, opened) = scripted(|stream| async move { drop(stream) });
    let error = get(&pools, url("http://a.test/")).await.unwrap_err();
    let count = opened.load(SeqCst);
    assert!((1..=TRIES).contains(&count), "{count} connections, then {error}");
}

#[tokio::test]
async fn a_closed_connection_fails_and_says_how() {
    let (pools, _) = scripted(|stream| async move { drop(stream) });
    let mut connection = pools.take(&url("http://a.test/")).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let request = Request::get("http://a.test/").body(Empty::<Bytes>::new());
    let without_ready = connection.call(request.unwrap()).await.unwrap_err();
    let ready = connection.ready().await.err().unwrap();
    let texts = [&without_ready, &ready].map(|error| program::report(error));
    for text in &texts {
        prose().says(text);
    }
    assert_eq!(texts, ["operation was canceled: connection was not ready", "channel closed"]);
}

#[tokio::test(start_paused = true)]
async fn unused_connections_are_closed_and_unused_pools_forgotten() {
    let prose = prose();
    assert_eq!(prose.number("unused for {} seconds"), IDLE.as_secs());
    assert_eq!(prose.number("Every {} seconds it looks"), TIDY.as_secs());
    assert!(TOTAL < IDLE);
    for h2 in [false, true] {
        let network = Network::new(h2);
        let pools = Pools::new(network.clone());
        get(&pools, url("https://a.test/")).await.unwrap();
        sleep(IDLE - TIDY).await;
        assert_eq!(network.closed(), 0, "HTTP/2: {h2}");
        sleep(2 * TIDY).await;
        until("the end of the connection", || network.closed() == 1).await;
        get(&pools, url("https://a.test/")).await.unwrap();
        assert_eq!(network.opened(), 2, "HTTP/2: {h2}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_connections_those_that_are_used_stay() {
    let network = Network::new(false);
    let pools = Pools::new(network.clone());
    let tasks = at_once(&pools, AT_ONCE, "http://a.test/held");
    network.held(AT_ONCE).await;
    network.answer_held(AT_ONCE);
    all(tasks).await;
    let begun = Instant::now();
    while begun.elapsed() < 2 * IDLE {
        get(&pools, url("http://a.test/")).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((network.opened(), network.closed()), (AT_ONCE, AT_ONCE - 1));
}

#[tokio::test(start_paused = true)]
async fn the_pieces_have_no_clock_of_their_own() {
    let network = Network::new(false);
    let mut bare = cache::builder().build(network.clone());
    let connection = bare.ready().await.unwrap().call(url("http://a.test/")).await;
    drop(connection.unwrap());
    sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!((network.closed(), bare.is_empty()), (0, false));
}

#[tokio::test]
async fn the_last_clone_closes_all() {
    let network = Network::new(false);
    let pools = Pools::new(network.clone());
    get(&pools, url("http://a.test/")).await.unwrap();
    get(&pools, url("http://b.test/")).await.unwrap();
    let clone = pools.clone();
    drop(pools);
    get(&clone, url("http://a.test/")).await.unwrap();
    assert_eq!((network.opened(), network.closed()), (2, 0));
    drop(clone);
    until("the end of both", || network.closed() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let (pools, _) = scripted(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    });
    let begun = Instant::now();
    let error = get(&pools, url("http://a.test/")).await.unwrap_err();
    assert_eq!((begun.elapsed().as_secs(), &*error), (TOTAL.as_secs(), "deadline has elapsed"));
}

#[tokio::test]
async fn an_endless_body_is_given_up() {
    let (pools, _) = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    });
    let error = get(&pools, url("http://a.test/")).await.unwrap_err();
    assert_eq!(error, "length limit exceeded");
}

/// What the page says about the pieces themselves.
#[tokio::test]
async fn a_singleton_shares_one_error_with_all_who_wait() {
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    let connect = service_fn(move |()| {
        let tried = count.fetch_add(1, SeqCst);
        async move {
            tokio::task::yield_now().await;
            if tried == 0 { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(7) }
        }
    });
    let mut single = Singleton::new(connect);
    let (mut one, mut two) = (Box::pin(single.call(())), Box::pin(single.call(())));
    assert!(matches!(poll!(&mut one), Poll::Pending));
    assert!(matches!(poll!(&mut two), Poll::Pending));
    let texts = [one.await, two.await].map(|result| result.err().unwrap().to_string());
    assert_eq!(texts[0], texts[1]);
    assert_eq!(tried.load(SeqCst), 1);
    assert!(single.call(()).await.is_ok(), "the next call tries again");
}

// Servers that others wrote.

#[test]
#[ignore = "needs nginx"]
fn others_nginx() {
    let folder = folder();
    let [count, at_once] =
        prose().numbers("fetch a page {} times, the first alone and the other {} at once");
    assert_eq!((count - 1, at_once), (at_once, AT_ONCE as u64));
    for (settings, version, connections) in
        [(" http2;", "HTTP/2.0", 1), (";", "HTTP/1.1", AT_ONCE)]
    {
        let server = https::nginx(&folder, settings);
        let url = format!("https://{}/", server.address);
        let ca = https::file(&folder, "ca.pem");
        let (status, printed) =
            Program::client("pools", &[&url, &count.to_string(), "--ca", &ca]).wait();
        assert!(status.success(), "{printed:?}");
        let expected =
            format!("{count} responses over {version}, connections opened: {connections}");
        assert_eq!(printed, [expected]);
    }
}
