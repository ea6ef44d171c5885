// ANCHOR: program
//! A TLS server with a graceful shutdown that waits for handshakes, within a limit.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to send a request head after that.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long everything may go on after the signal.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long the process may take to end after that.
const GRACE: Duration = Duration::from_millis(500);

/// Prints a line, as on the page about graceful shutdown: `println!` panics when
/// nobody reads the output any more.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

async fn handle(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    log(format_args!("{} {}", request.method(), request.uri().path()));
    sleep(Duration::from_secs(1)).await;
    Ok(Response::new(Full::from("Hello, World!\n")))
}

// ANCHOR: acceptor
/// Makes a certificate for this run. Load yours from a file.
fn tls_acceptor() -> Result<TlsAcceptor, Box<dyn Error>> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut config =
        ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                key.signing_key.serialize_der().try_into()?,
            )?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}
// ANCHOR_END: acceptor

// ANCHOR: connection
/// One connection, from its first byte to its last.
async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    watcher: Watcher,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service_fn(handle));
    watcher.watch(conn).await?;
    Ok(())
}
// ANCHOR_END: connection

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
    let acceptor = tls_acceptor()?;
    let listener = TcpListener::bind(address).await?;
    log(format_args!("listening on https://{}", listener.local_addr()?));

    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    // ANCHOR: serve
    loop {
        tokio::select! {
            stream = accept(&listener) => {
                let conn = serve(stream, acceptor.clone(), graceful.watcher());
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

    drop(listener);
    let second_signal = shutdown_signal()?;
    log("stopping");
    tokio::select! {
        exit = drain(graceful, connections) => Ok(exit),
        () = second_signal => {
            log("stopped: told twice");
            process::exit(130)
        }
    }
}
// ANCHOR_END: program
