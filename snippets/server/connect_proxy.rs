// ANCHOR: program
//! A forward proxy: it opens tunnels to the hosts on its list.

use std::collections::HashSet;
use std::convert::Infallible;
use std::env;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

type Error = Box<dyn std::error::Error + Send + Sync>;

// ANCHOR: limits
/// Connections and tunnels at a time. Each tunnel takes two descriptors.
pub const MAX_CONNECTIONS: usize = 256;
/// For each head; also how long a connection without a tunnel may be idle.
pub const HEAD: Duration = Duration::from_secs(10);
/// To find the address of a host and connect to it.
pub const CONNECT: Duration = Duration::from_secs(10);
/// How long a tunnel may be silent in both directions.
pub const IDLE: Duration = Duration::from_secs(60);
// ANCHOR_END: limits

/// The place of a connection, shared with the tunnel that it may become.
type Slot = Arc<OwnedSemaphorePermit>;

// ANCHOR: proxy
async fn proxy(
    allowed: &HashSet<String>,
    request: Request<Incoming>,
    slot: Slot,
) -> Result<Response<Full<Bytes>>, StatusCode> {
    if request.method() != Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let target = target(request.uri()).ok_or(StatusCode::BAD_REQUEST)?;
    if !allowed.contains(&target) {
        return Err(StatusCode::FORBIDDEN);
    }
    let server = match timeout(CONNECT, connect(&target)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(StatusCode::FORBIDDEN);
        }
        Ok(Err(_)) => return Err(StatusCode::BAD_GATEWAY),
        Err(_) => return Err(StatusCode::GATEWAY_TIMEOUT),
    };
    tokio::spawn(tunnel(hyper::upgrade::on(request), server, slot));
    Ok(Response::new(Full::default()))
}
// ANCHOR_END: proxy

// ANCHOR: target
/// The target as it stands on the list: `host:port`.
fn target(uri: &Uri) -> Option<String> {
    let authority = uri.authority()?;
    let port = authority.port_u16()?;
    let target = format!("{}:{port}", authority.host().to_ascii_lowercase());
    authority.as_str().eq_ignore_ascii_case(&target).then_some(target)
}
// ANCHOR_END: target

// ANCHOR: connect
async fn connect(target: &str) -> io::Result<TcpStream> {
    // An address that is on the list was meant. What a name means, others decide.
    let is_address = target.parse::<SocketAddr>().is_ok();
    let mut result = Err(io::ErrorKind::NotFound.into());
    for address in lookup_host(target).await? {
        if !is_address && !is_public(address.ip()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        result = TcpStream::connect(address).await;
        if result.is_ok() {
            break;
        }
    }
    result
}
// ANCHOR_END: connect

// ANCHOR: public
/// Whether an address belongs to the internet, and not to this host or its network.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => match ip.octets() {
            [0 | 10 | 127 | 224.., ..] | [169, 254, ..] | [192, 168, ..] => false,
            [100, second, ..] => !(64..128).contains(&second),
            [172, second, ..] => !(16..32).contains(&second),
            [198, 18 | 19, ..] | [192, 0, 0 | 2, _] => false,
            [198, 51, 100, _] | [203, 0, 113, _] => false,
            _ => true,
        },
        // Global unicast, without the ranges for tunnels and documentation.
        IpAddr::V6(ip) => match ip.segments() {
            [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
            [0x2002 | 0x3fff, ..] => false,
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}
// ANCHOR_END: public

// ANCHOR: tunnel
async fn tunnel(client: OnUpgrade, server: TcpStream, slot: Slot) {
    let result: Result<(), Error> = match timeout(HEAD, client).await {
        Ok(Ok(client)) => copy(client, server).await.map_err(Into::into),
        Ok(Err(error)) => Err(error.into()),
        Err(elapsed) => Err(elapsed.into()),
    };
    if let Err(error) = result {
        eprintln!("tunnel: {}", report(&*error));
    }
    drop(slot);
}

/// Copies in both directions, until both have ended or nothing moves.
async fn copy(client: Upgraded, server: TcpStream) -> io::Result<()> {
    let moved = AtomicBool::new(false);
    let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
    let (server_read, server_write) = server.into_split();
    let up = pump(client_read, server_write, &moved);
    let down = pump(server_read, client_write, &moved);
    let mut both = pin!(async { tokio::try_join!(up, down) });
    loop {
        match timeout(IDLE, both.as_mut()).await {
            Ok(result) => return result.map(|_| ()),
            Err(_) if moved.swap(false, Relaxed) => {}
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "idle")),
        }
    }
}
// ANCHOR_END: tunnel

// ANCHOR: pump
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        moved.store(true, Relaxed);
    }
}
// ANCHOR_END: pump

fn refuse(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{status}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("CONNECT"));
    }
    response
}

// ANCHOR: serve
pub async fn serve<T>(
    allowed: Arc<HashSet<String>>,
    stream: T,
    slot: Slot,
) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let (allowed, slot) = (allowed.clone(), slot.clone());
        async move {
            let response = proxy(&allowed, request, slot).await;
            Ok::<_, Infallible>(response.unwrap_or_else(refuse))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
}
// ANCHOR_END: serve

pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".to_owned());
    let mut allowed: HashSet<String> = arguments.collect();
    if allowed.is_empty() {
        allowed.insert("example.com:443".to_owned());
    }
    let allowed = Arc::new(allowed);
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let allowed = allowed.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(allowed, stream, Arc::new(slot)).await {
                eprintln!("connection failed: {}", report(&error));
            }
        });
    }
}
// ANCHOR_END: main
// ANCHOR_END: program
