// ANCHOR: program
//! A server that, told to stop, finishes the requests it is handling.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

// ANCHOR: limits
/// How long a client may take to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long requests may go on after the signal.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long the process may take to end after that.
const GRACE: Duration = Duration::from_millis(500);
// ANCHOR_END: limits

// ANCHOR: log
/// Prints a line. `println!` panics when nobody reads the output any more.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}
// ANCHOR_END: log

async fn handle(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    log(format_args!("{} {}", request.method(), request.uri().path()));
    let body = match request.uri().path() {
        "/slow" => {
            sleep(Duration::from_secs(2)).await;
            Full::from("slow, but whole\n").boxed()
        }
        "/endless" => endless().boxed(),
        _ => {
            sleep(Duration::from_millis(20)).await;
            Full::from("Hello, World!\n").boxed()
        }
    };
    Ok(Response::new(body))
}

/// A body that sends a line every minute and never ends.
fn endless() -> Channel<Bytes> {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        while sender.send_data(Bytes::from("tick\n")).await.is_ok() {
            sleep(Duration::from_secs(60)).await;
        }
    });
    body
}

// ANCHOR: signal
/// Listens for Ctrl+C, and for SIGTERM on Unix. The listening begins with the
/// call, not with the first poll of the future.
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
// ANCHOR_END: signal

// ANCHOR: accept
/// Waits for the next connection. An error is reported, never returned.
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
// ANCHOR_END: accept

// ANCHOR: drain
/// Waits for the connections until the deadline, and ends those that are left.
async fn drain(graceful: GracefulShutdown, mut tasks: JoinSet<()>) -> ExitCode {
    if timeout(DRAIN_DEADLINE, graceful.shutdown()).await.is_ok() {
        log("stopped: every connection has ended in time");
        return ExitCode::SUCCESS;
    }
    // A task that never yields does not end: do not wait for it long.
    timeout(GRACE / 2, tasks.shutdown()).await.ok();
    log("stopped: some connections were cut off at the deadline");
    ExitCode::FAILURE
}
// ANCHOR_END: drain

// ANCHOR: watchdog
/// Ends the process if it still runs `GRACE` after the deadline. It has its own
/// thread and runtime, so that no task of the server can hold it up.
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
// ANCHOR_END: watchdog

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    // ANCHOR: listen
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let mut signal = pin!(shutdown_signal()?);
    watchdog()?;
    let listener = TcpListener::bind(address).await?;
    log(format_args!("listening on http://{}", listener.local_addr()?));
    // ANCHOR_END: listen

    // ANCHOR: serve
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = accept(&listener) => {
                let conn = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service_fn(handle));
                let conn = graceful.watch(conn);
                connections.spawn(async move {
                    if let Err(error) = conn.await {
                        log(format_args!("connection failed: {error}"));
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            () = &mut signal => break,
        }
    }
    // ANCHOR_END: serve

    // ANCHOR: stop
    drop(listener);
    let second_signal = shutdown_signal()?;
    log("stopping: waiting for the requests in flight");
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
