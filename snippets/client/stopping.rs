// ANCHOR: program
//! Asks a server for a URL again and again, and stops cleanly: requests under way get
//! some time to finish, and the rest are cancelled.

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

type BoxError = Box<dyn Error + Send + Sync>;
pub type HttpClient = Client<HttpConnector, Empty<Bytes>>;

// ANCHOR: limits
/// How many requests may be under way at once.
const WORKERS: usize = 4;
/// How long a worker waits before its next request.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a request may take, with its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may go on after the signal.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How large a body may be, in bytes.
const BODY_LIMIT: usize = 1024 * 1024;
// ANCHOR_END: limits

/// Prints a line. `println!` panics when nobody reads the output any more.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

/// An error with its causes: hyper's errors do not print theirs.
fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}

async fn get(client: &HttpClient, url: Uri) -> Result<(StatusCode, usize), BoxError> {
    let response = client.get(url).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await?;
    Ok((status, body.to_bytes().len()))
}

// ANCHOR: worker
/// Sends one request after the other until `stopping` is true.
pub async fn work(client: HttpClient, url: Uri, mut stopping: watch::Receiver<bool>) {
    loop {
        match timeout(REQUEST_TIMEOUT, get(&client, url.clone())).await {
            Ok(Ok((status, size))) => log(format_args!("{status}, {size} bytes")),
            Ok(Err(error)) => log(format_args!("failed: {}", report(&*error))),
            Err(_) => log("failed: no whole response in time"),
        }
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            () = sleep(PAUSE) => {}
        }
    }
}
// ANCHOR_END: worker

// ANCHOR: drain
/// Waits for the workers, until the deadline or a second signal. Cancels the
/// requests that are left, and says how many they were.
pub async fn drain(
    mut workers: JoinSet<()>,
    second_signal: impl Future<Output = ()>,
) -> usize {
    let all = async {
        while let Some(end) = workers.join_next().await {
            if let Err(error) = end {
                log(format_args!("a worker failed: {error}"));
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = sleep(DRAIN_DEADLINE) => {}
        () = second_signal => {}
    }
    let cancelled = workers.len();
    // Drops their futures, and waits until that is done.
    workers.shutdown().await;
    cancelled
}
// ANCHOR_END: drain

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

// ANCHOR: run
async fn run(url: Uri) -> Result<ExitCode, BoxError> {
    let signal = shutdown_signal()?;
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build_http();
    let (stop, stopping) = watch::channel(false);
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(client.clone(), url.clone(), stopping.clone()));
    }

    signal.await;
    let second_signal = shutdown_signal()?;
    log("stopping: no new requests");
    stop.send(true).ok();
    match drain(workers, second_signal).await {
        0 => {
            log("stopped: nothing was cancelled");
            Ok(ExitCode::SUCCESS)
        }
        cancelled => {
            log(format_args!("stopped: {cancelled} requests were cancelled"));
            Ok(ExitCode::FAILURE)
        }
    }
}
// ANCHOR_END: run

#[tokio::main]
async fn main() -> ExitCode {
    let url = env::args().nth(1).unwrap_or("http://127.0.0.1:3000/".to_owned());
    let outcome = match url.parse() {
        Ok(url) => run(url).await,
        Err(error) => Err(format!("{url}: {error}").into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{}", report(&*error));
        ExitCode::FAILURE
    })
}
// ANCHOR_END: program
