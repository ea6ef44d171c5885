//! The pattern of hyper's official guide for 1.x, with SIGTERM beside Ctrl+C: drop the listener,
//! shut down gracefully, wait 10 seconds at most.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

async fn handle(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let slow = request.uri().path() == "/slow";
    sleep(Duration::from_millis(if slow { 2000 } else { 20 })).await;
    Ok(Response::new(Full::from("done\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = TcpSocket::new_v4()?;
    // For the row in which two instances share the port.
    socket.set_reuseport(true)?;
    socket.bind(std::env::args().nth(1).unwrap().parse()?)?;
    let listener = socket.listen(1024)?;
    println!("listening on http://{}", listener.local_addr()?);
    let graceful = GracefulShutdown::new();
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let conn = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(accepted?.0), service_fn(handle));
                tokio::spawn(graceful.watch(conn));
            }
            _ = terminate.recv() => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = sleep(Duration::from_secs(10)) => {}
    }
    Ok(())
}
