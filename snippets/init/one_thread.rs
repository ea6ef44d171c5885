// ANCHOR: program
//! A server on one thread: its state is an `Rc`, over HTTP/1 and HTTP/2.

use std::cell::Cell;
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

// ANCHOR: executor
/// Starts tasks on the thread that it is called on.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
// ANCHOR_END: executor

// ANCHOR: handle
async fn handle(
    _request: Request<Incoming>,
    count: Rc<Cell<u64>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    count.set(count.get() + 1);
    Ok(Response::new(format!("request {}\n", count.get()).into()))
}
// ANCHOR_END: handle

// ANCHOR: serve
async fn serve(listener: TcpListener) {
    let count = Rc::new(Cell::new(0));
    let mut builder = auto::Builder::new(LocalExecutor);
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (builder, count) = (builder.clone(), count.clone());
        spawn_local(async move {
            let service = service_fn(|request| handle(request, count.clone()));
            let conn = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}
// ANCHOR_END: serve

// ANCHOR: main
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    LocalSet::new().run_until(serve(listener)).await;
    Ok(())
}
// ANCHOR_END: main
// ANCHOR_END: program
