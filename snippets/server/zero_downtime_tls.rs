// ANCHOR: program
//! A server for HTTP/1.1 and HTTP/2 over TLS that stops without losing a request.

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
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

// ANCHOR: times
/// For the load balancer: how long it may take to see that the server is not ready.
pub const LAME_DUCK: Duration = Duration::from_secs(3);
/// For clients in the middle of the TCP handshake.
pub const UNDER_WAY: Duration = Duration::from_millis(250);
/// For HTTP/1 clients that have connected: how long they may take to send a request.
pub const LINGER: Duration = Duration::from_secs(1);
/// For all that is left when the listener has closed.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long the process may take to end after that.
pub const GRACE: Duration = Duration::from_millis(500);
/// For each client: how long it may take to read the end of what we sent.
pub const CLOSING: Duration = Duration::from_secs(2);
// ANCHOR_END: times
// ANCHOR: limits
/// How long a TLS handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// HTTP/1: for each request head; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: a PING after this long without a request, and the time for the answer.
pub const PING_AFTER: Duration = Duration::from_secs(5);
pub const PING_ANSWER: Duration = Duration::from_secs(3);
// ANCHOR_END: limits
/// How long accepting pauses after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Prints a line, as on the page about graceful shutdown: `println!` panics when
/// nobody reads the output any more.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

async fn handle(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/slow" => sleep(Duration::from_secs(2)).await,
        "/stuck" => stuck().await,
        _ => sleep(Duration::from_millis(20)).await,
    }
    Response::new(Full::from("done\n"))
}

/// Blocking work that takes a minute. No runtime can interrupt it.
async fn stuck() {
    let work = || thread::sleep(Duration::from_secs(60));
    if let Err(error) = spawn_blocking(work).await {
        log(format_args!("work failed: {error}"));
    }
}

// ANCHOR: stage
/// How far the stop has come. Each connection watches it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub enum Stage {
    Serving,
    /// Not ready, still accepting.
    Leaving,
    /// The listener is closed.
    Closed,
}

/// Waits until the listener is closed.
async fn closed(mut stage: watch::Receiver<Stage>) {
    stage.wait_for(|stage| *stage == Stage::Closed).await.ok();
}
// ANCHOR_END: stage

// ANCHOR: respond
/// Stands around the handler: answers `/ready` and, at a stop, asks clients to go.
async fn respond(
    request: Request<Incoming>,
    stage: watch::Receiver<Stage>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let ready = request.uri().path() == "/ready";
    let mut response =
        if ready { Response::default() } else { handle(request).await };
    // Asked after the work is done, so requests in flight at the signal say it too.
    if *stage.borrow() > Stage::Serving {
        if ready {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        // ANCHOR: header
        // Over HTTP/2 hyper removes it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // ANCHOR_END: header
    }
    Ok(response)
}
// ANCHOR_END: respond

// ANCHOR: http2
async fn serve_http2(
    io: impl rt::Read + rt::Write + Unpin,
    stage: watch::Receiver<Stage>,
) -> hyper::Result<()> {
    let closed = closed(stage.clone());
    let service = service_fn(move |request| respond(request, stage.clone()));
    let conn = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER)
        .serve_connection(io, service);
    let mut conn = pin!(conn);
    tokio::select! {
        result = &mut conn => return result,
        () = closed => conn.as_mut().graceful_shutdown(),
    }
    conn.await
}
// ANCHOR_END: http2

// ANCHOR: http1
async fn serve_http1(
    io: impl rt::Read + rt::Write + Unpin,
    stage: watch::Receiver<Stage>,
) -> hyper::Result<()> {
    let closed = closed(stage.clone());
    let service = service_fn(move |request| respond(request, stage.clone()));
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(io, service);
    let mut conn = pin!(conn);
    let linger = async {
        closed.await;
        // ANCHOR: linger
        sleep(LINGER).await;
        // ANCHOR_END: linger
    };
    tokio::select! {
        result = &mut conn => return result,
        () = linger => conn.as_mut().graceful_shutdown(),
    }
    conn.await
}
// ANCHOR_END: http1

// ANCHOR: serve
/// One connection, from the TLS handshake until its client is gone.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    acceptor: TlsAcceptor,
    stage: watch::Receiver<Stage>,
) -> Result<()> {
    let mut stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    // Borrowed, so that the stream is still there when hyper has finished.
    let io = TokioIo::new(&mut stream);
    let result = if is_http2 {
        serve_http2(io, stage).await
    } else {
        serve_http1(io, stage).await
    };
    // ANCHOR: closing
    let until_gone = async {
        stream.shutdown().await?;
        let (tcp, _) = stream.get_mut();
        while tcp.read(&mut [0; 4096]).await? > 0 {}
        io::Result::Ok(())
    };
    timeout(CLOSING, until_gone).await.ok();
    // ANCHOR_END: closing
    Ok(result?)
}
// ANCHOR_END: serve

// ANCHOR: acceptor
/// Makes a certificate for this run. Load yours from a file.
pub fn tls_acceptor() -> Result<TlsAcceptor> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut config =
        ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                key.signing_key.serialize_der().try_into()?,
            )?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}
// ANCHOR_END: acceptor

// ANCHOR: server
struct Server {
    acceptor: TlsAcceptor,
    stage: watch::Sender<Stage>,
    connections: JoinSet<()>,
}

impl Server {
    fn serve(&mut self, stream: TcpStream) {
        let conn = serve(stream, self.acceptor.clone(), self.stage.subscribe());
        self.connections.spawn(async {
            if let Err(error) = conn.await {
                log(format_args!("connection failed: {error}"));
            }
        });
    }
    // ANCHOR_END: server

    /// Accepts connections and serves them, until `end` is done.
    async fn accept_until(
        &mut self,
        end: impl Future<Output = ()>,
        listener: &TcpListener,
    ) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _peer)) => self.serve(stream),
                    Err(error) => {
                        log(format_args!("accept failed: {error}"));
                        // A pause that does not delay the end.
                        if timeout(ACCEPT_PAUSE, &mut end).await.is_ok() {
                            break;
                        }
                    }
                },
                Some(_) = self.connections.join_next() => {}
                () = &mut end => break,
            }
        }
    }
}

/// Makes Linux drop the packets that begin a connection. Explained on the page
/// about zero downtime.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
pub fn drop_new_handshakes(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::{SockFilter, SockRef};
        let filter = SockRef::from(listener).attach_filter(&[
            SockFilter::new(0x30, 0, 0, 13), // load the flags of the TCP header
            SockFilter::new(0x45, 0, 1, 0x02), // is SYN among them?
            SockFilter::new(0x06, 0, 0, 0),  // yes: keep 0 bytes of the packet
            SockFilter::new(0x06, 0, 0, u32::MAX), // no: keep all
        ]);
        if let Err(error) = filter {
            log(format_args!("no socket filter: {error}"));
        }
    }
}

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

/// Ends the process when the time for the stop is over, as on the page about
/// graceful shutdown.
fn watchdog() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let signal = {
        let _entered = runtime.enter();
        shutdown_signal()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            signal.await;
            sleep(LAME_DUCK + UNDER_WAY + DRAIN_DEADLINE + GRACE).await;
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

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let signal = shutdown_signal()?;
    watchdog()?;
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let mut server = Server {
        acceptor: tls_acceptor()?,
        stage: watch::Sender::new(Stage::Serving),
        connections: JoinSet::new(),
    };
    let listener = TcpListener::bind(address).await?;
    log(format_args!("listening on https://{}", listener.local_addr()?));
    server.accept_until(signal, &listener).await;

    let second_signal = shutdown_signal()?;
    tokio::spawn(async {
        second_signal.await;
        log("stopped: told twice");
        process::exit(130)
    });
    // ANCHOR: stop
    server.stage.send_replace(Stage::Leaving);
    log("stopping: not ready, still accepting");
    // ANCHOR: lame_duck
    server.accept_until(sleep(LAME_DUCK), &listener).await;
    // ANCHOR_END: lame_duck
    // ANCHOR: no_handshakes
    drop_new_handshakes(&listener);
    // ANCHOR_END: no_handshakes
    // ANCHOR: under_way
    server.accept_until(sleep(UNDER_WAY), &listener).await;
    // ANCHOR_END: under_way
    drop(listener);
    server.stage.send_replace(Stage::Closed);
    log("stopping: not accepting");
    // ANCHOR_END: stop

    // ANCHOR: drain
    let mut connections = server.connections;
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_DEADLINE, all_gone).await.is_ok() {
        log("stopped: every connection has ended in time");
        return Ok(ExitCode::SUCCESS);
    }
    // A task that never yields does not end: do not wait for it long.
    timeout(GRACE / 2, connections.shutdown()).await.ok();
    log("stopped: some connections were cut off at the deadline");
    Ok(ExitCode::FAILURE)
    // ANCHOR_END: drain
}
// ANCHOR_END: program
