// ANCHOR: program
//! A runtime for each core, on one port.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

// ANCHOR: listen
/// A listener of its own on a port that others listen on, too.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(unix)] // Windows has no such option: the second listener fails there.
    {
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(1024)
}
// ANCHOR_END: listen

async fn serve(listener: TcpListener, thread: usize) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        spawn_local(async move {
            let service = service_fn(async |_: Request<Incoming>| {
                let body = Full::from(format!("thread {thread}\n"));
                Ok::<_, Infallible>(Response::<Full<hyper::body::Bytes>>::new(body))
            });
            let conn = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}

// ANCHOR: main
fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let mut address: SocketAddr = address.parse()?;
    let threads = thread::available_parallelism()?.get();
    let mut servers = Vec::new();
    for number in 0..threads {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(async { listen(address) })?;
        // The first one may have asked for any free port.
        address = listener.local_addr()?;
        servers.push(thread::spawn(move || {
            LocalSet::new().block_on(&runtime, serve(listener, number));
        }));
    }
    println!("listening on http://{address}");
    println!("{threads} threads");
    for server in servers {
        server.join().map_err(|_| "a thread has panicked")?;
    }
    Ok(())
}
// ANCHOR_END: main
// ANCHOR_END: program
