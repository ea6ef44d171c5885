// ANCHOR: program
//! A server that stops, and is replaced, without losing a request.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, io};

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
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

// ANCHOR: times
/// For the load balancer: how long it may take to see that the server is not ready.
const LAME_DUCK: Duration = Duration::from_secs(3);
/// For clients that have connected: how long they may take to send a request.
const LINGER: Duration = Duration::from_secs(1);
/// For requests in flight: how long they may go on after that.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
// ANCHOR_END: times

// ANCHOR: handle
async fn handle(path: &str, stopping: &AtomicBool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("done\n"));
    match path {
        "/ready" if stopping.load(Ordering::Relaxed) => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        "/ready" => {}
        "/slow" => sleep(Duration::from_secs(2)).await,
        _ => sleep(Duration::from_millis(20)).await,
    }
    // ANCHOR: header
    // Asked after the work is done: a request that was in flight at the signal says it too.
    if stopping.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // ANCHOR_END: header
    response
}
// ANCHOR_END: handle

// ANCHOR: server
#[derive(Default)]
struct Server {
    stopping: Arc<AtomicBool>,
    graceful: GracefulShutdown,
    connections: JoinSet<()>,
}

impl Server {
    fn serve(&mut self, stream: TcpStream) {
        let stopping = self.stopping.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let stopping = stopping.clone();
            async move {
                Ok::<_, Infallible>(handle(request.uri().path(), &stopping).await)
            }
        });
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5))
            .serve_connection(TokioIo::new(stream), service);
        let conn = self.graceful.watch(conn);
        self.connections.spawn(async {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }

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
                        eprintln!("accept failed: {error}");
                        // A pause that does not keep the signal waiting.
                        if timeout(Duration::from_millis(100), &mut end).await.is_ok() {
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
// ANCHOR_END: server

// ANCHOR: listen
/// The listening socket that systemd, or whoever started this process, has left open for it, and
/// true; else a new one, on a port that other instances may share, and false.
async fn listen() -> Result<(TcpListener, bool), Box<dyn Error>> {
    if let Some(listener) = ListenFd::from_env().take_tcp_listener(0)? {
        listener.set_nonblocking(true)?;
        return Ok((TcpListener::from_std(listener)?, true));
    }
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let address = lookup_host(address).await?.next().ok_or("no such address")?;
    let socket =
        if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok((socket.listen(1024)?, false))
}
// ANCHOR_END: listen

// ANCHOR: filter
/// Makes Linux drop the packets that begin a connection; those of connections under way pass.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
fn drop_new_handshakes(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::{SockFilter, SockRef};
        let filter = SockRef::from(listener).attach_filter(&[
            SockFilter::new(0x30, 0, 0, 13), // load byte 13 of the TCP header, the flags
            SockFilter::new(0x45, 0, 1, 0x02), // is SYN among them?
            SockFilter::new(0x06, 0, 0, 0),  // yes: keep 0 bytes of the packet
            SockFilter::new(0x06, 0, 0, u32::MAX), // no: keep all
        ]);
        if let Err(error) = filter {
            eprintln!("no socket filter: {error}");
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

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let signal = shutdown_signal()?;
    let (listener, inherited) = listen().await?;
    println!("listening on http://{}", listener.local_addr()?);
    let mut server = Server::default();
    server.accept_until(signal, &listener).await;

    // ANCHOR: begin
    let second_signal = shutdown_signal()?;
    tokio::spawn(async {
        second_signal.await;
        println!("stopped: told twice");
        process::exit(130)
    });
    server.stopping.store(true, Ordering::Relaxed);
    println!("stopping: not ready, still accepting");
    // ANCHOR: lame_duck
    server.accept_until(sleep(LAME_DUCK), &listener).await;
    // ANCHOR_END: lame_duck
    // ANCHOR_END: begin

    // ANCHOR: close
    let linger = Instant::now() + LINGER;
    if !inherited {
        // ANCHOR: no_handshakes
        drop_new_handshakes(&listener);
        // ANCHOR_END: no_handshakes
        // ANCHOR: backlog
        server.accept_until(sleep(LINGER / 4), &listener).await;
        // ANCHOR_END: backlog
    }
    drop(listener);
    println!("stopping: not accepting");
    // ANCHOR_END: close

    // ANCHOR: linger
    let all_gone = async {
        while server.graceful.count() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout_at(linger, all_gone).await.ok();
    // ANCHOR_END: linger

    // ANCHOR: drain
    let Server { graceful, mut connections, .. } = server;
    let drained = timeout(DRAIN_DEADLINE, graceful.shutdown()).await;
    connections.shutdown().await;
    if drained.is_err() {
        println!("stopped: some requests were cut off at the deadline");
        return Ok(ExitCode::FAILURE);
    }
    println!("stopped: every request is answered");
    Ok(ExitCode::SUCCESS)
    // ANCHOR_END: drain
}
// ANCHOR_END: program
