//! Accepts connections in several ways, and streams small pieces with and without TCP_NODELAY.
//!
//!     sockets ADDRESS WAY LOOPS
//!
//! `/counts` says how many connections each accept loop has had.

use std::convert::Infallible;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime;

type Counts = Arc<Vec<AtomicUsize>>;

const PIECES: usize = 5;

async fn answer(
    request: Request<Incoming>,
    counts: Counts,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let pieces = |pause: Option<Duration>| {
        let pieces = stream::iter(0..PIECES).then(move |piece| async move {
            if piece > 0
                && let Some(pause) = pause
            {
                tokio::time::sleep(pause).await;
            }
            Ok(Frame::data(Bytes::from_static(b"0123456789")))
        });
        StreamBody::new(pieces).boxed_unsync()
    };
    let body = match request.uri().path() {
        "/counts" => {
            let counts = counts.iter().map(|count| count.load(Relaxed).to_string());
            Full::from(counts.collect::<Vec<_>>().join(" ")).boxed_unsync()
        }
        "/ready" => pieces(None),
        "/paused" => pieces(Some(Duration::from_millis(1))),
        _ => Full::from("0123456789").boxed_unsync(),
    };
    Ok(Response::new(body))
}

/// Accepts and counts. Each connection gets a task of the runtime that this one is in.
async fn accept(listener: Arc<TcpListener>, index: usize, counts: Counts) {
    let nodelay = env::args().nth(2).unwrap() != "nagle";
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        counts[index].fetch_add(1, Relaxed);
        stream.set_nodelay(nodelay).ok();
        let counts = counts.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, counts.clone()));
            let builder = auto::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

fn listen(address: SocketAddr) -> io::Result<Arc<TcpListener>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(Arc::new(socket.listen(4096)?))
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (way, loops) = (arguments[1].clone(), arguments[2].parse().unwrap());
    let counts: Counts = Arc::new((0..loops).map(|_| AtomicUsize::new(0)).collect());
    let runtime = runtime::Runtime::new()?;
    let _entered = runtime.enter();
    let first = listen(arguments[0].parse().unwrap())?;
    let address = first.local_addr()?;
    println!("listening on http://{address}");
    let mut threads = Vec::new();
    let mut first = Some(first);
    let mut shared = None;
    for index in 0..loops {
        let counts = counts.clone();
        if way == "threads" {
            // Its listener belongs to its runtime.
            let old = first.take();
            threads.push(thread::spawn(move || {
                let runtime = runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let listener = listen(address).unwrap();
                    drop(old);
                    accept(listener, index, counts).await;
                });
            }));
            continue;
        }
        let listener = match (&way[..], first.take()) {
            (_, Some(listener)) => {
                shared = Some(listener.clone());
                listener
            }
            ("listeners", None) => listen(address)?,
            (_, None) => shared.clone().unwrap(),
        };
        runtime.spawn(accept(listener, index, counts));
    }
    runtime.block_on(std::future::pending::<()>());
    Ok(())
}
