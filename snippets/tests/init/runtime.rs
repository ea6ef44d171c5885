//! What src/init/runtime.md promises.

use std::any::Any;
use std::convert::Infallible;
use std::fs;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Executor, Read, Sleep, Timer, Write};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, client, server};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{
    TokioExecutor, TokioIo, TokioTimer,
};
use hyper_util::rt::tokio::{WithHyperIo, WithTokioIo};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{self, timeout};
use tower_service::Service as _;

use harness::{Prose, page, root};
use program::{Calls, Counted, LIMIT, PIPE, quiet};

/// The program itself.
#[allow(dead_code)]
#[path = "../../init/runtime.rs"]
mod program;

const HOUR: Duration = Duration::from_secs(3600);

fn runtime() -> Prose {
    page("init/runtime")
}

fn calls(tasks: usize, sleeps: usize, resets: usize) -> Calls {
    Calls { tasks, sleeps, resets }
}

fn take<T>(counted: &Counted<T>) -> Calls {
    std::mem::take(&mut *counted.calls())
}

/// A server of HTTP/2 that accepts every CONNECT, and answers all else with a body of this.
fn http2_server(
    builder: &server::conn::http2::Builder<Counted<TokioExecutor>>,
    io: DuplexStream,
) -> JoinHandle<hyper::Result<()>> {
    let service = service_fn(async |mut request: Request<Incoming>| {
        if request.method() == Method::CONNECT {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                io.write_all(b"tunnel").await.unwrap();
            });
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service))
}

#[tokio::test]
async fn a_connect_needs_a_task_more_on_either_side() {
    runtime().says("one more for each CONNECT");
    let (client, server) = duplex(PIPE);
    let served = Counted::<TokioExecutor>::default();
    http2_server(&server::conn::http2::Builder::new(served.clone()), server);
    let (mut sender, asked) = program::http2_client(client).await.unwrap();
    quiet().await;
    assert_eq!(take(&served), calls(0, 0, 0), "a connection is no task of the server");
    assert_eq!(take(&asked), calls(1, 1, 0), "one is of the client");

    sender.send_request(program::get().unwrap()).await.unwrap();
    quiet().await;
    assert_eq!((take(&served).tasks, take(&asked).tasks), (1, 1));

    let mut connect = program::get().unwrap();
    *connect.method_mut() = Method::CONNECT;
    *connect.uri_mut() = "test:80".parse().unwrap();
    let mut response = sender.send_request(connect).await.unwrap();
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut bytes = [0; 6];
    TokioIo::new(upgraded).read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"tunnel");
    quiet().await;
    assert_eq!((take(&served).tasks, take(&asked).tasks), (2, 2));
}

#[tokio::test]
async fn a_body_needs_a_task_more() {
    runtime().says("for each request, for its body");
    let (client, server) = duplex(PIPE);
    program::auto_server(server);
    let (mut sender, runtime) = program::http2_client(client).await.unwrap();
    quiet().await;
    take(&runtime);
    for (request, tasks) in [(program::get(), 1), (program::post(), 2)] {
        sender.send_request(request.unwrap()).await.unwrap();
        quiet().await;
        assert_eq!(take(&runtime).tasks, tasks);
    }
}

#[tokio::test]
async fn adaptive_windows_ask_only_for_the_time() {
    runtime().says("adaptive_window asks only for now");
    let (client, server) = duplex(PIPE);
    let executor = Counted::<TokioExecutor>::default();
    let asked = Nows::default();
    let mut builder = server::conn::http2::Builder::new(executor.clone());
    builder.timer(executor.with(asked.clone())).adaptive_window(true);
    http2_server(&builder, server);
    let (mut sender, _) = program::http2_client(client).await.unwrap();
    let response = sender.send_request(program::post().unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    quiet().await;
    assert_eq!(take(&executor), calls(1, 0, 0));
    assert!(asked.0.load(Relaxed) > 0, "it asks for the time");
}

/// tokio's timer, which counts the questions for the time.
#[derive(Clone, Default)]
struct Nows(Arc<AtomicUsize>);

impl Timer for Nows {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.0.fetch_add(1, Relaxed);
        TokioTimer::new().now()
    }
}

/// The tasks of a pooled client for a response whose body comes with its head, or later.
async fn tasks_of_a_response(late: bool) -> usize {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let (head, body) = ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "hello");
    let (sender, seen) = oneshot::channel();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        if late {
            stream.write_all(head.as_bytes()).await.unwrap();
            seen.await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
        } else {
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            seen.await.unwrap();
        }
        stream
    });
    let executor = Counted::<TokioExecutor>::default();
    let client = Client::builder(executor.clone()).build_http::<Empty<Bytes>>();
    let response = client.get(uri).await.unwrap();
    sender.send(()).unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    served.await.unwrap();
    take(&executor).tasks
}

#[tokio::test]
async fn the_legacy_client_waits_for_a_body_in_a_task() {
    runtime().says("for each response whose body is still on its way");
    assert_eq!(tasks_of_a_response(false).await, 1, "the connection");
    assert_eq!(tasks_of_a_response(true).await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_pool_asks_for_a_new_sleep_each_time() {
    runtime().says("The pool of the legacy Client never calls reset");
    let (client, runtime) = program::legacy_client(false);
    let response = client.request(program::get().unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    quiet().await;
    assert_eq!(take(&runtime), calls(2, 1, 0), "the connection, and the pool");
    // It is used again, so it is too young to be closed when the pool first looks. The server would
    // close it after 30 s of silence.
    for _ in 0..4 {
        time::sleep(Duration::from_secs(20)).await;
        let response = client.request(program::get().unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
        quiet().await;
    }
    assert_eq!(take(&runtime), calls(0, 0, 0));
    time::sleep(HOUR).await;
    assert_eq!(take(&runtime), calls(0, 1, 0), "it has looked twice, and is empty");
    time::sleep(HOUR).await;
    assert_eq!(take(&runtime), calls(0, 0, 0), "an empty pool looks no more");
}

// A limit on a paused clock.

/// Serves nothing to a client that says nothing: when the connection ends, and how.
async fn silence(timer: impl Timer + Send + Sync + 'static) -> (Duration, String) {
    let (_client, server) = duplex(PIPE);
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let start = time::Instant::now();
    let mut builder = server::conn::http1::Builder::new();
    builder.timer(timer).header_read_timeout(LIMIT);
    let conn = builder.serve_connection(TokioIo::new(server), service);
    let error = timeout(HOUR, conn).await.expect("the limit ends it").unwrap_err();
    (start.elapsed(), error.to_string())
}

const TOO_LATE: &str = "read header from client timeout";

#[tokio::test(start_paused = true)]
async fn a_limit_fires_on_a_paused_clock() {
    let seconds = runtime().number("Here {} seconds pass in no time");
    assert_eq!(seconds, LIMIT.as_secs());
    let timer = Counted::<TokioTimer>::default();
    let (elapsed, error) = silence(timer.clone()).await;
    assert_eq!((elapsed.as_secs(), error.as_str()), (LIMIT.as_secs(), TOO_LATE));
    assert_eq!(take(&timer), calls(0, 1, 0));
}

/// tokio's timer but for the time, which is that of the system.
struct SystemTime;

impl Timer for SystemTime {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep_until(deadline)
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_without_now_mixes_two_clocks() {
    let [hours, seconds] = runtime().numbers::<2>(
        "once the paused clock is {} hours ahead, a limit of {} seconds ends a connection at once",
    );
    assert_eq!(seconds, LIMIT.as_secs());
    time::advance(HOUR * hours as u32).await;
    let (elapsed, error) = silence(SystemTime).await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    assert_eq!(error, TOO_LATE);
    let (elapsed, _) = silence(TokioTimer::new()).await;
    assert_eq!(elapsed.as_secs(), LIMIT.as_secs());
}

/// tokio's timer with a `Sleep` of its own type. Does it forward `reset` to tokio's?
struct Own {
    forwards: bool,
}

struct OwnSleep(Pin<Box<dyn Sleep>>);

impl Future for OwnSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Sleep for OwnSleep {}

impl Timer for Own {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(OwnSleep(TokioTimer::new().sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(OwnSleep(TokioTimer::new().sleep_until(deadline)))
    }

    fn now(&self) -> Instant {
        TokioTimer::new().now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        if self.forwards {
            TokioTimer::new().reset(sleep, deadline);
        } else {
            *sleep = self.sleep_until(deadline);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_a_foreign_sleep_does_nothing() {
    let text = "keep-alive timed out";
    runtime().says(text);
    for forwards in [true, false] {
        let (client, server) = duplex(PIPE);
        let executor = Counted::<TokioExecutor>::default();
        let mut builder = server::conn::http2::Builder::new(executor);
        builder.timer(Own { forwards }).keep_alive_interval(LIMIT);
        let conn = http2_server(&builder, server);
        // hyper's client answers each PING.
        let io = TokioIo::new(client);
        let (mut sender, driver) =
            client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(driver);
        sender.send_request(program::get().unwrap()).await.unwrap();
        let ended = timeout(HOUR, conn).await;
        if forwards {
            let error = ended.unwrap().unwrap().unwrap_err();
            assert!(program_text(&error).contains(text), "{error:?}");
        } else {
            assert!(ended.is_err(), "it goes on");
        }
    }
}

fn program_text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", program_text(source)),
        None => error.to_string(),
    }
}

// Without a timer, or without tokio.

fn text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

/// What a thread without a runtime panics with.
pub fn panics(run: impl FnOnce() + Send + 'static) -> String {
    text(thread::spawn(run).join().expect_err("it panics"))
}

const NO_TIMER: &str = "You must supply a timer.";

#[test]
fn an_http1_limit_without_a_timer_panics_when_the_connection_is_built() {
    let message = "timeout `header_read_timeout` set, but no timer set";
    runtime().says(message);
    let printed = panics(|| {
        let (_client, server) = duplex(PIPE);
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let mut builder = server::conn::http1::Builder::new();
        builder.header_read_timeout(LIMIT);
        // It is not polled.
        drop(builder.serve_connection(TokioIo::new(server), service));
    });
    assert_eq!(printed, message);
}

#[tokio::test]
async fn http2_keep_alive_without_a_timer_panics_with_the_handshake() {
    let page = runtime();
    page.says(NO_TIMER);
    page.says("in the connection, after the preface of the client");
    page.says("in handshake(…).await");
    page.says("in the first request");
    let (client, server) = duplex(PIPE);
    let executor = Counted::<TokioExecutor>::default();
    let mut builder = server::conn::http2::Builder::new(executor.clone());
    builder.keep_alive_interval(LIMIT);
    let conn = http2_server(&builder, server);
    quiet().await;
    assert!(!conn.is_finished(), "not before the preface");
    let io = TokioIo::new(client);
    let (_sender, driver) =
        client::conn::http2::handshake::<_, _, Empty<Bytes>>(executor, io)
            .await
            .unwrap();
    tokio::spawn(driver);
    assert_eq!(text(conn.await.unwrap_err().into_panic()), NO_TIMER);

    let (client, _server) = duplex(PIPE);
    let mut builder = client::conn::http2::Builder::new(TokioExecutor::new());
    builder.keep_alive_interval(LIMIT);
    let shaken = tokio::spawn(async move {
        builder.handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.map(drop)
    });
    assert_eq!(text(shaken.await.unwrap_err().into_panic()), NO_TIMER);

    // A pool_timer is none for HTTP/2.
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(LIMIT)
        .build(program::InMemory);
    let request = program::get().unwrap();
    let sent = tokio::spawn(async move { client.request(request).await.map(drop) });
    assert_eq!(text(sent.await.unwrap_err().into_panic()), NO_TIMER);
}

#[test]
fn tokios_executor_and_timer_need_tokios_runtime() {
    let page = runtime();
    let none =
        "there is no reactor running, must be called from the context of a Tokio 1.x runtime";
    page.says(none);
    assert_eq!(panics(|| TokioExecutor::new().execute(async {})), none);
    let timer = || drop(TokioTimer::new().sleep(LIMIT));
    assert_eq!(panics(timer), none);
    let connects = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let connecting = HttpConnector::new().call(uri.parse().unwrap());
        drop(smol::block_on(connecting));
    };
    assert_eq!(panics(connects), none);

    let disabled = "A Tokio 1.x context was found, but timers are disabled. Call `enable_time` on the runtime builder to enable timers.";
    page.says(disabled);
    let printed = panics(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { timer() });
    });
    assert_eq!(printed, disabled);

    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap().block_on(async { timer() });
}

#[test]
fn tokios_sockets_need_a_runtime_with_io() {
    let disabled = "A Tokio 1.x context was found, but IO is disabled. Call `enable_io` on the runtime builder to enable IO.";
    runtime().says(disabled);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listens = async || {
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    };
    let connects = async move || {
        let uri = format!("http://{address}/").parse().unwrap();
        HttpConnector::new().call(uri).await.unwrap();
    };
    let without = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(panics(move || without().block_on(listens())), disabled);
    assert_eq!(panics(move || without().block_on(connects())), disabled);

    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().build().unwrap().block_on(listens());
    // Its connector has no time limit, unless one is set.
    builder.build().unwrap().block_on(connects());
}

// tokio's adapters.

/// Whether a type has a trait: `true` hides the `false` that all types have.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code)]
        trait Lacks {
            const HAS: bool = false;
        }
        impl<T> Lacks for Type<T> {}
        struct Type<T>(PhantomData<T>);
        #[allow(dead_code)]
        impl<T: $($bound)+> Type<T> {
            const HAS: bool = true;
        }
        <Type<$type>>::HAS
    }};
}

#[test]
fn the_adapters_have_the_traits_of_the_table() {
    type Tokio = DuplexStream;
    /// What has the traits of hyper alone.
    type Hyper = TokioIo<DuplexStream>;
    let table = [
        ("TokioIo around IO of tokio", has!(TokioIo<Tokio>: AsyncRead + AsyncWrite), has!(TokioIo<Tokio>: Read + Write)),
        ("TokioIo around IO of hyper", has!(TokioIo<Hyper>: AsyncRead + AsyncWrite), has!(TokioIo<Hyper>: Read + Write)),
        ("WithHyperIo around IO of tokio", has!(WithHyperIo<Tokio>: AsyncRead + AsyncWrite), has!(WithHyperIo<Tokio>: Read + Write)),
        ("WithTokioIo around IO of hyper", has!(WithTokioIo<Hyper>: AsyncRead + AsyncWrite), has!(WithTokioIo<Hyper>: Read + Write)),
    ];
    let word = |has| if has { "yes" } else { "no" };
    for (name, tokio, hyper) in table {
        runtime().says(&format!("{name} | {} | {}", word(tokio), word(hyper)));
    }
}

// `Send`.

/// Takes the tasks of the legacy client and no others: this compiles only as long as they are these.
#[derive(Clone)]
struct Boxes;

impl Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for Boxes {
    fn execute(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }
}

#[tokio::test]
async fn the_legacy_client_boxes_its_tasks() {
    runtime().says("hands Pin<Box<dyn Future<Output = ()> + Send>> to its executor");
    for http2 in [false, true] {
        let client =
            Client::builder(Boxes).http2_only(http2).build(program::InMemory);
        let response = client.request(program::post().unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "hello");
    }
}

/// The first line of the compiler's message.
#[test]
fn a_timer_must_be_send() {
    let file = root().join("snippets/mistakes/init/timer_not_send.stderr");
    let error = fs::read_to_string(file).unwrap();
    let (_, text) = error.lines().next().unwrap().split_once(": ").unwrap();
    runtime().says(text);
}
