// ANCHOR: program
//! Counts what each builder of hyper and hyper-util asks of the runtime.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn as client;
use hyper::rt::{Executor, Read, Sleep, Timer, Write};
use hyper::server::conn as server;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{DuplexStream, duplex};
use tokio::task::yield_now;
use tower_service::Service;

type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Body = BoxBody<Bytes, Infallible>;

// ANCHOR: counted
/// What a runtime was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls {
    pub tasks: usize,
    pub sleeps: usize,
    pub resets: usize,
}

/// Passes each call on, and counts it.
#[derive(Clone, Default)]
pub struct Counted<T> {
    inner: T,
    calls: Arc<Mutex<Calls>>,
}
// ANCHOR_END: counted

impl<T> Counted<T> {
    pub fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something else of the same runtime, which counts together with this.
    pub fn with<U>(&self, inner: U) -> Counted<U> {
        Counted { inner, calls: self.calls.clone() }
    }
}

// ANCHOR: executor
impl<F, E: Executor<F>> Executor<F> for Counted<E> {
    fn execute(&self, future: F) {
        self.calls().tasks += 1;
        self.inner.execute(future);
    }
}
// ANCHOR_END: executor

// ANCHOR: timer
impl<T: Timer> Timer for Counted<T> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.calls().sleeps += 1;
        self.inner.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.calls().sleeps += 1;
        self.inner.sleep_until(deadline)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        self.calls().resets += 1;
        self.inner.reset(sleep, deadline);
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}
// ANCHOR_END: timer

pub const PIPE: usize = 64 * 1024;
pub const LIMIT: Duration = Duration::from_secs(30);

// ANCHOR: server
pub fn http2_server(io: DuplexStream) -> Counted<TokioExecutor> {
    let executor = Counted::<TokioExecutor>::default();
    let mut builder = server::http2::Builder::new(executor.clone());
    builder.timer(executor.with(TokioTimer::new())).keep_alive_interval(LIMIT);
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service_fn(echo)));
    executor
}
// ANCHOR_END: server

pub fn http1_server(io: DuplexStream) -> Counted<TokioTimer> {
    let timer = Counted::<TokioTimer>::default();
    let mut builder = server::http1::Builder::new();
    builder.timer(timer.clone());
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service_fn(echo)));
    timer
}

pub fn auto_server(io: DuplexStream) -> Counted<TokioExecutor> {
    let executor = Counted::<TokioExecutor>::default();
    let timer = executor.with(TokioTimer::new());
    let mut builder = auto::Builder::new(executor.clone());
    builder.http1().timer(timer.clone());
    builder.http2().timer(timer).keep_alive_interval(LIMIT);
    tokio::spawn(async move {
        builder.serve_connection(TokioIo::new(io), service_fn(echo)).await
    });
    executor
}

async fn echo(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let bytes = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(bytes.into()))
}

// ANCHOR: client
pub async fn http2_client(
    io: DuplexStream,
) -> hyper::Result<(client::http2::SendRequest<Body>, Counted<TokioExecutor>)> {
    let executor = Counted::<TokioExecutor>::default();
    let mut builder = client::http2::Builder::new(executor.clone());
    builder.timer(executor.with(TokioTimer::new())).keep_alive_interval(LIMIT);
    let (sender, conn) = builder.handshake(TokioIo::new(io)).await?;
    tokio::spawn(conn);
    Ok((sender, executor))
}
// ANCHOR_END: client

pub async fn http1_client(
    io: DuplexStream,
) -> hyper::Result<client::http1::SendRequest<Body>> {
    let (sender, conn) = client::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(conn);
    Ok(sender)
}

// ANCHOR: legacy
pub fn legacy_client(
    http2: bool,
) -> (Client<InMemory, Body>, Counted<TokioExecutor>) {
    let executor = Counted::<TokioExecutor>::default();
    let timer = executor.with(TokioTimer::new());
    let client = Client::builder(executor.clone())
        .pool_timer(timer.clone())
        .timer(timer)
        .http2_keep_alive_interval(LIMIT)
        .http2_only(http2)
        .build(InMemory);
    (client, executor)
}
// ANCHOR_END: legacy

/// Connects to a server at the other end of a pipe.
#[derive(Clone)]
pub struct InMemory;

pub trait Io: Read + Write + Send + Unpin {}

impl Io for TokioIo<DuplexStream> {}

impl Connection for Box<dyn Io> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Service<Uri> for InMemory {
    type Response = Box<dyn Io>;
    type Error = Infallible;
    type Future = Ready<Result<Box<dyn Io>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (client, server) = duplex(PIPE);
        auto_server(server);
        ready(Ok(Box::new(TokioIo::new(client))))
    }
}

// ANCHOR: measure
/// Prints what was asked for until the connection was open, and for each request.
async fn measure<E: Into<Error>>(
    name: &str,
    runtime: &Counted<impl Sized>,
    mut send: impl AsyncFnMut(Request<Body>) -> Result<Response<Incoming>, E>,
) -> Result<(), Error> {
    quiet().await;
    let mut row = [take(&mut *runtime.calls()), Calls::default(), Calls::default()];
    for (request, calls) in [get()?, post()?].into_iter().zip(&mut row[1..]) {
        let response = send(request).await.map_err(Into::into)?;
        response.into_body().collect().await?;
        quiet().await;
        *calls = take(&mut *runtime.calls());
    }
    let [connect, get, post] = row.map(|calls| describe(&calls));
    println!("{name:22} {connect:17} {get:26} {post}");
    Ok(())
}
// ANCHOR_END: measure

/// Lets the other tasks run until all of them wait. There is only one thread.
pub async fn quiet() {
    for _ in 0..100 {
        yield_now().await;
    }
}

pub fn get() -> hyper::http::Result<Request<Body>> {
    Request::get("http://test/").body(Empty::new().boxed())
}

pub fn post() -> hyper::http::Result<Request<Body>> {
    Request::post("http://test/").body(Full::from("hello").boxed())
}

fn describe(calls: &Calls) -> String {
    let Calls { tasks, sleeps, resets } = calls;
    let cell = [(tasks, "task"), (sleeps, "sleep"), (resets, "reset")]
        .into_iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, what)| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        })
        .collect::<Vec<_>>()
        .join(", ");
    if cell.is_empty() { "-".to_owned() } else { cell }
}

// ANCHOR: main
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    println!("{:22} {:17} {:26} POST", "", "connect", "GET");

    let (client, server) = duplex(PIPE);
    let runtime = http1_server(server);
    let mut sender = http1_client(client).await?;
    let send = async |request| sender.send_request(request).await;
    measure("http1 server", &runtime, send).await?;
    // ANCHOR_END: main

    let (client, server) = duplex(PIPE);
    let runtime = http2_server(server);
    let (mut sender, _) = http2_client(client).await?;
    let send = async |request| sender.send_request(request).await;
    measure("http2 server", &runtime, send).await?;

    let (client, server) = duplex(PIPE);
    let runtime = auto_server(server);
    let mut sender = http1_client(client).await?;
    let send = async |request| sender.send_request(request).await;
    measure("auto, HTTP/1", &runtime, send).await?;

    let (client, server) = duplex(PIPE);
    let runtime = auto_server(server);
    let (mut sender, _) = http2_client(client).await?;
    let send = async |request| sender.send_request(request).await;
    measure("auto, HTTP/2", &runtime, send).await?;

    let (client, server) = duplex(PIPE);
    auto_server(server);
    let (mut sender, runtime) = http2_client(client).await?;
    let send = async |request| sender.send_request(request).await;
    measure("http2 client", &runtime, send).await?;

    for (name, http2) in
        [("legacy Client, HTTP/1", false), ("legacy Client, HTTP/2", true)]
    {
        let (client, runtime) = legacy_client(http2);
        let send = async |request| client.request(request).await;
        measure(name, &runtime, send).await?;
    }
    Ok(())
}
// ANCHOR_END: program
