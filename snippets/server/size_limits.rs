// ANCHOR: program
//! A server that limits how much its clients may send, and how many of them may connect.

use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Connections at a time. Stay well below `ulimit -n`.
const MAX_CONNECTIONS: usize = 64;
/// From the connect to the head of the first request.
const FIRST_REQUEST: Duration = Duration::from_secs(5);

// ANCHOR: settings
pub fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .max_headers(50)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(20)
        .max_header_list_size(8 * 1024);
    builder
}
// ANCHOR_END: settings

// ANCHOR: places
/// How many connections one address may have at a time.
const MAX_PER_ADDRESS: usize = 16;

/// The number of connections of each address that has any.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One place of an address. Its drop frees the place.
pub struct Place(Places, IpAddr);

impl Places {
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        (*count < MAX_PER_ADDRESS).then(|| {
            *count += 1;
            Place(self.clone(), address)
        })
    }
}
// ANCHOR_END: places

// ANCHOR: drop
impl Drop for Place {
    fn drop(&mut self) {
        let Place(Places(taken), address) = self;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(address);
            }
        }
    }
}

/// Whoever has one IPv6 address usually has the whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 64)).into(),
        ip => ip,
    }
}
// ANCHOR_END: drop

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, World!\n")))
}

async fn serve(stream: TcpStream) -> Result<(), Error> {
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        hello(request)
    });
    let builder = builder();
    let mut conn = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if let Ok(result) = timeout(FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    if !begun.load(Relaxed) {
        return Err("no request in time".into());
    }
    conn.await
}

// ANCHOR: accept
#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let places = Places::default();
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // No line for these: a flood would fill the disk.
        let Some(place) = places.take(peer.ip()) else { continue };
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("connection failed: {}", report(&*error));
            }
            drop((place, slot));
        });
    }
}
// ANCHOR_END: accept

pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}
// ANCHOR_END: program
