// ANCHOR: program
//! A server that stops, and is replaced, without losing a request.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::runtime::{self, Runtime};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout, timeout_at};

// ANCHOR: times
/// For the load balancer: how long it may take to see that the server is not ready.
const LAME_DUCK: Duration = Duration::from_secs(3);
/// For clients that have connected: how long they may take to send a request.
const LINGER: Duration = Duration::from_secs(1);
/// For requests in flight: how long they may go on after that.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long the process may take to end after that.
const GRACE: Duration = Duration::from_millis(500);
// ANCHOR_END: times
/// How long a client may take to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting pauses after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Prints a line, as on the page about graceful shutdown: `println!` panics when
/// nobody reads the output any more.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

// ANCHOR: handle
async fn handle(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/slow" => sleep(Duration::from_secs(2)).await,
        "/stuck" => stuck().await,
        _ => sleep(Duration::from_millis(20)).await,
    }
    Ok(Response::new(Full::from("done\n")))
}

/// Blocking work that takes a minute. No runtime can interrupt it.
async fn stuck() {
    let work = || thread::sleep(Duration::from_secs(60));
    if let Err(error) = spawn_blocking(work).await {
        log(format_args!("work failed: {error}"));
    }
}
// ANCHOR_END: handle

// ANCHOR: respond
/// Stands around the handler: answers `/ready` and, at a stop, asks clients to go.
async fn respond(
    request: Request<Incoming>,
    stopping: Arc<AtomicBool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let ready = request.uri().path() == "/ready";
    let mut response =
        if ready { Response::default() } else { handle(request).await? };
    // Asked after the work is done, so requests in flight at the signal say it too.
    if stopping.load(Ordering::Relaxed) {
        if ready {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        // ANCHOR: header
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // ANCHOR_END: header
    }
    Ok(response)
}
// ANCHOR_END: respond

// ANCHOR: server
#[derive(Default)]
struct Server {
    stopping: Arc<AtomicBool>,
    graceful: GracefulShutdown,
    connections: JoinSet<()>,
}
// ANCHOR_END: server

impl Server {
    // ANCHOR: serve
    fn serve(&mut self, stream: TcpStream) {
        let stopping = self.stopping.clone();
        let service = service_fn(move |request| respond(request, stopping.clone()));
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let conn = self.graceful.watch(conn);
        self.connections.spawn(async {
            if let Err(error) = conn.await {
                log(format_args!("connection failed: {error}"));
            }
        });
    }
    // ANCHOR_END: serve

    // ANCHOR: accept_until
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
    // ANCHOR_END: accept_until
}

// ANCHOR: listen
/// A new listening socket, on a port that other instances may share.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut last_error = io::Error::other("the name has no address");
    for address in lookup_host(address).await? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(unix)]
    {
        socket.set_reuseaddr(true)?; // despite old connections in TIME_WAIT
        socket.set_reuseport(true)?; // despite another instance
    }
    socket.bind(address)?;
    socket.listen(1024)
}
// ANCHOR_END: listen

// ANCHOR: filter
/// Makes Linux drop the packets that begin a connection. Those of connections
/// under way pass.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
fn drop_new_handshakes(listener: &TcpListener) {
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
// ANCHOR_END: filter

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

// ANCHOR: watchdog
/// Ends the process when the time for the stop is over. It has a thread
/// and a runtime of its own, so that no task of the server can hold it up.
fn watchdog() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let signal = {
        let _entered = runtime.enter();
        shutdown_signal()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            signal.await;
            sleep(LAME_DUCK + LINGER + DRAIN_DEADLINE + GRACE).await;
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

// ANCHOR: main
fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Before the runtime starts: `from_env` changes the environment, which is safe
    // only while the process has a single thread.
    let inherited = ListenFd::from_env().take_tcp_listener(0)?;
    Runtime::new()?.block_on(run(inherited))
}
// ANCHOR_END: main

async fn run(
    socket: Option<std::net::TcpListener>,
) -> Result<ExitCode, Box<dyn Error>> {
    let signal = shutdown_signal()?;
    watchdog()?;
    // ANCHOR: inherit
    let inherited = socket.is_some();
    let listener = if let Some(socket) = socket {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)?
    } else {
        let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
        listen(&address).await?
    };
    log(format_args!("listening on http://{}", listener.local_addr()?));
    // ANCHOR_END: inherit
    let mut server = Server::default();
    server.accept_until(signal, &listener).await;

    // ANCHOR: begin
    let second_signal = shutdown_signal()?;
    tokio::spawn(async {
        second_signal.await;
        log("stopped: told twice");
        process::exit(130)
    });
    server.stopping.store(true, Ordering::Relaxed);
    log("stopping: not ready, still accepting");
    // ANCHOR: lame_duck
    server.accept_until(sleep(LAME_DUCK), &listener).await;
    // ANCHOR_END: lame_duck
    // ANCHOR_END: begin

    // ANCHOR: close
    let linger_end = Instant::now() + LINGER;
    if !inherited {
        // ANCHOR: no_handshakes
        drop_new_handshakes(&listener);
        // ANCHOR_END: no_handshakes
        // ANCHOR: backlog
        server.accept_until(sleep(LINGER / 4), &listener).await;
        // ANCHOR_END: backlog
    }
    drop(listener);
    log("stopping: not accepting");
    // ANCHOR_END: close

    // ANCHOR: linger
    let all_gone = async {
        while server.graceful.count() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout_at(linger_end, all_gone).await.ok();
    // ANCHOR_END: linger

    // ANCHOR: drain
    let Server { graceful, mut connections, .. } = server;
    if timeout(DRAIN_DEADLINE, graceful.shutdown()).await.is_ok() {
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
