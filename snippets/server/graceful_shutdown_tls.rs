// ANCHOR: program
//! A server that, told to stop, waits for its TLS handshakes too, but not for ever.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// How long a TLS handshake may take, and then a request head.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long everything may go on after the signal.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

async fn handle(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    println!("{} {}", request.method(), request.uri().path());
    sleep(Duration::from_secs(1)).await;
    Ok(Response::new(Full::from("Hello, World!\n")))
}

/// A certificate of our own, for as long as the program runs. Yours comes from a file.
fn tls_acceptor() -> Result<TlsAcceptor, Box<dyn Error>> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(
        vec![key.cert.der().clone()],
        key.signing_key.serialize_der().try_into()?,
    )?;
    Ok(Arc::new(config).into())
}

// ANCHOR: connection
/// One connection, from its first byte to its last.
async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    watcher: Watcher,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = timeout(CLIENT_TIMEOUT, acceptor.accept(stream)).await??;
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CLIENT_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service_fn(handle));
    watcher.watch(conn).await?;
    Ok(())
}
// ANCHOR_END: connection

/// As on the page about graceful shutdown.
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
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let mut signal = pin!(shutdown_signal()?);
    let acceptor = tls_acceptor()?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on https://{}", listener.local_addr()?);

    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    // ANCHOR: serve
    loop {
        tokio::select! {
            stream = accept(&listener) => {
                let conn = serve(stream, acceptor.clone(), graceful.watcher());
                connections.spawn(async move {
                    if let Err(error) = conn.await {
                        eprintln!("connection failed: {error}");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            () = &mut signal => break,
        }
    }
    // ANCHOR_END: serve

    drop(listener);
    println!("stopping");
    let exit = tokio::select! {
        () = graceful.shutdown() => {
            println!("stopped: all is done");
            ExitCode::SUCCESS
        }
        () = sleep(DRAIN_DEADLINE) => {
            println!("stopped: some were cut off at the deadline");
            ExitCode::FAILURE
        }
    };
    connections.shutdown().await;
    Ok(exit)
}
// ANCHOR_END: program
