// ANCHOR: program
//! Any future can tell a server to stop: here a oneshot channel, then a timer.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

// ANCHOR: serve
/// Serves until `signal` completes and the requests in flight are answered.
async fn serve(listener: TcpListener, signal: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut signal = pin!(signal);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    let conn = server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service_fn(hello));
                    tokio::spawn(graceful.watch(conn));
                }
                Err(error) => {
                    eprintln!("accept failed: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            () = &mut signal => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
}
// ANCHOR_END: serve

async fn hello(
    _request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, World!")))
}

async fn get(stream: TcpStream) -> Result<Bytes, Box<dyn Error>> {
    let (mut sender, conn) =
        client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(conn);
    let request =
        Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: oneshot
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, async {
        stopped.await.ok();
    }));

    let answer = get(TcpStream::connect(address).await?).await?;
    assert_eq!(answer, "Hello, World!");

    drop(stop);
    server.await?;
    assert!(TcpStream::connect(address).await.is_err());
    println!("stopped by a oneshot");
    // ANCHOR_END: oneshot

    // ANCHOR: timer
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    serve(listener, sleep(Duration::from_millis(100))).await;
    println!("stopped by a timer");
    // ANCHOR_END: timer
    Ok(())
}
// ANCHOR_END: program
