// ANCHOR: program
//! A server with HTTP/1, HTTP/2, WebSockets, event streams and background jobs, and
//! a graceful shutdown for all of them.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_util::sync::CancellationToken;

// ANCHOR: times
/// From the connect to the head of the first request.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// How long a client of HTTP/1 may take to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 and WebSockets: how long a client may be silent before it gets a ping.
const PING_AFTER: Duration = Duration::from_secs(4);
/// How long it may take to answer the ping.
const PING_ANSWER: Duration = Duration::from_secs(4);
/// How long everything may go on after the signal.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long the process may take to end after that.
const GRACE: Duration = Duration::from_millis(500);
// ANCHOR_END: times

/// Prints a line, as on the page about graceful shutdown: `println!` panics when
/// nobody reads the output any more.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

// ANCHOR: lifetime
/// The shutdown waits for whoever holds one of these.
#[derive(Clone)]
struct Lifetime {
    /// Cancelled when the server is told to stop.
    stopping: CancellationToken,
    /// Never read: it only has to be dropped.
    _guard: Arc<Watcher>,
}
// ANCHOR_END: lifetime

type Body = BoxBody<Bytes, Infallible>;

async fn handle(
    request: Request<Incoming>,
    lifetime: Lifetime,
) -> Result<Response<Body>, Infallible> {
    log(format_args!("{} {}", request.method(), request.uri().path()));
    Ok(match request.uri().path() {
        "/ws" => websocket(request, lifetime),
        "/events" => events(lifetime),
        "/job" => job(lifetime),
        "/stuck" => {
            // Cannot be cancelled: here to show that the process ends all the same.
            spawn_blocking(|| {
                log("the stuck job has started");
                thread::sleep(Duration::from_secs(3600));
            });
            Response::new(Full::from("stuck\n").boxed())
        }
        _ => {
            sleep(Duration::from_millis(20)).await;
            Response::new(Full::from("Hello, World!\n").boxed())
        }
    })
}

// ANCHOR: job
/// Starts some work, and answers before it is done.
fn job(lifetime: Lifetime) -> Response<Body> {
    tokio::spawn(async move {
        sleep(Duration::from_secs(5)).await;
        log("the job is done");
        drop(lifetime);
    });
    let mut response = Response::new(Full::from("the job has started\n").boxed());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
// ANCHOR_END: job

// ANCHOR: events
/// An event every ten seconds, until the server is told to stop.
fn events(lifetime: Lifetime) -> Response<Body> {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let ticks = async {
            while sender.send_data(Bytes::from("data: tick\n\n")).await.is_ok() {
                sleep(Duration::from_secs(10)).await;
            }
        };
        tokio::select! {
            () = ticks => {}
            () = lifetime.stopping.cancelled() => {}
        }
        // Dropping the sender ends the body.
    });
    let mut response = Response::new(body.boxed());
    let event_stream = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(CONTENT_TYPE, event_stream);
    response
}
// ANCHOR_END: events

// ANCHOR: upgrade
/// Turns the connection into a WebSocket, in a task of its own.
fn websocket(request: Request<Incoming>, lifetime: Lifetime) -> Response<Body> {
    let response = create_response_with_body(&request, || Empty::new().boxed());
    match response {
        Ok(response) => {
            tokio::spawn(async move {
                if let Err(error) = echo(request, lifetime).await {
                    log(format_args!("websocket failed: {error}"));
                }
            });
            response
        }
        Err(error) => {
            let mut response =
                Response::new(Full::from(format!("{error}\n")).boxed());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}
// ANCHOR_END: upgrade

// ANCHOR: messages
/// Sends each message back, until the client closes or the server is told to stop.
async fn echo(
    request: Request<Incoming>,
    lifetime: Lifetime,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let io = TokioIo::new(hyper::upgrade::on(request).await?);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    let mut pinged = false;
    loop {
        let patience = if pinged { PING_ANSWER } else { PING_AFTER };
        let next = tokio::select! {
            next = timeout(patience, socket.next()) => next,
            () = lifetime.stopping.cancelled() => break,
        };
        // ANCHOR_END: messages
        // ANCHOR: reply
        let reply = match next {
            Ok(Some(message)) => {
                pinged = false;
                message?
            }
            Ok(None) => return Ok(()),
            Err(_) if pinged => return Err("no answer to a ping".into()),
            Err(_) => {
                pinged = true;
                Message::Ping(Bytes::new())
            }
        };
        // tungstenite itself answers a ping or a close.
        if pinged || reply.is_text() || reply.is_binary() {
            timeout(PING_ANSWER, socket.send(reply)).await??;
        }
    }
    // ANCHOR_END: reply
    // ANCHOR: close
    let reason = "the server is stopping".into();
    let closed = async {
        socket.close(Some(CloseFrame { code: CloseCode::Away, reason })).await?;
        // The connection ends when the client has answered with a close frame.
        while socket.next().await.transpose()?.is_some() {}
        Ok(())
    };
    timeout(PING_ANSWER, closed).await?
    // ANCHOR_END: close
}

/// Explained on the page about graceful shutdown.
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let (mut interrupt, mut terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    #[cfg(windows)]
    let (mut interrupt, mut terminate) = {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        (ctrl_c()?, ctrl_break()?)
    };
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return stream,
            Err(error) => {
                log(format_args!("accept failed: {error}"));
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

// ANCHOR: never_used
/// Whether a connection was told to stop before its client had sent anything.
fn never_used(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::Interrupted)
}
// ANCHOR_END: never_used

/// Ends the process when the deadline and the grace are over. Explained on the page
/// about graceful shutdown.
fn watchdog() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let signal = {
        let _entered = runtime.enter();
        shutdown_signal()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            signal.await;
            sleep(DRAIN_DEADLINE + GRACE).await;
        });
        // In a thread, because a write to a full pipe may never end.
        let (sender, printed) = mpsc::channel();
        thread::spawn(move || {
            log("stopped by force: some task does not end");
            sender.send(()).ok();
        });
        printed.recv_timeout(Duration::from_millis(250)).ok();
        process::exit(1)
    });
    Ok(())
}

async fn drain(graceful: GracefulShutdown, mut connections: JoinSet<()>) -> ExitCode {
    if timeout(DRAIN_DEADLINE, graceful.shutdown()).await.is_ok() {
        log("stopped: all is done");
        return ExitCode::SUCCESS;
    }
    timeout(GRACE / 2, connections.shutdown()).await.ok();
    log("stopped: some were cut off at the deadline");
    ExitCode::FAILURE
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let mut signal = pin!(shutdown_signal()?);
    watchdog()?;
    let listener = TcpListener::bind(address).await?;
    log(format_args!("listening on http://{}", listener.local_addr()?));

    // ANCHOR: builder
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER);
    // ANCHOR_END: builder
    let graceful = GracefulShutdown::new();
    let stopping = CancellationToken::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = accept(&listener) => {
                // ANCHOR: service
                let lifetime = Lifetime {
                    stopping: stopping.clone(),
                    _guard: Arc::new(graceful.watcher()),
                };
                let begun = Arc::new(AtomicBool::new(false));
                let has_begun = begun.clone();
                let service = service_fn(move |request| {
                    begun.store(true, Relaxed);
                    handle(request, lifetime.clone())
                });
                // ANCHOR_END: service
                // ANCHOR: watch
                let conn = builder
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .into_owned();
                let conn = graceful.watch(conn);
                connections.spawn(async move {
                    let mut conn = pin!(conn);
                    let result = match timeout(FIRST_REQUEST, conn.as_mut()).await {
                        Ok(result) => result,
                        Err(_) if has_begun.load(Relaxed) => conn.await,
                        Err(_) => Err("no request in time".into()),
                    };
                    match result {
                        Err(error) if !never_used(&*error) => {
                            log(format_args!("connection failed: {error}"));
                        }
                        _ => {}
                    }
                });
                // ANCHOR_END: watch
            }
            Some(_) = connections.join_next() => {}
            () = &mut signal => break,
        }
    }

    // ANCHOR: stop
    drop(listener);
    let second_signal = shutdown_signal()?;
    log("stopping");
    stopping.cancel();
    tokio::select! {
        exit = drain(graceful, connections) => Ok(exit),
        () = second_signal => {
            log("stopped: told twice");
            process::exit(130)
        }
    }
    // ANCHOR_END: stop
}
// ANCHOR_END: program
