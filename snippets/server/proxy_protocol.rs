// ANCHOR: program
//! A server behind a load balancer that sends the PROXY protocol.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use ppp::{v1, v2};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader,
};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

// ANCHOR: constants
/// The load balancers. Nobody else may say who the client is.
const TRUSTED: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// How long a load balancer may take to send its header.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest header: of version 1 by its specification, and of version 2 here.
pub const MAX_V1: usize = 107;
pub const MAX_V2: usize = 4096;
// ANCHOR_END: constants
/// How long a client may take to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

async fn handle(
    _request: Request<Incoming>,
    client: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(format!("you are {}\n", client.ip()).into()))
}

// ANCHOR: read_header
/// Takes the PROXY header from the stream, and not a byte more.
pub async fn read_header(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Vec<u8>> {
    // No header of either version is shorter than the prefix of version 2.
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        // Version, family, and the length of what follows.
        header.resize(16, 0);
        stream.read_exact(&mut header[12..]).await?;
        let end = 16 + usize::from(u16::from_be_bytes([header[14], header[15]]));
        if end > MAX_V2 {
            return Err(io::Error::other("the PROXY header is too long"));
        }
        header.resize(end, 0);
        stream.read_exact(&mut header[16..]).await?;
    } else if header.starts_with(b"PROXY ") {
        let rest = (MAX_V1 - header.len()) as u64;
        stream.take(rest).read_until(b'\n', &mut header).await?;
    } else {
        return Err(io::Error::other("no PROXY header"));
    }
    Ok(header)
}
// ANCHOR_END: read_header

// ANCHOR: client
/// The client, unless the load balancer speaks for itself or does not know.
fn client(header: &[u8]) -> Result<Option<SocketAddr>, Box<dyn Error>> {
    if let Some(rest) = header.strip_prefix(v2::PROTOCOL_PREFIX) {
        if rest.starts_with(b"\x20") {
            return Ok(None); // LOCAL: the rest does not matter
        }
        return Ok(match v2::Header::try_from(header)?.addresses {
            v2::Addresses::IPv4(a) => Some((a.source_address, a.source_port).into()),
            v2::Addresses::IPv6(a) => Some((a.source_address, a.source_port).into()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        });
    }
    if header.starts_with(b"PROXY UNKNOWN ") && header.ends_with(b"\r\n") {
        return Ok(None);
    }
    Ok(match v1::Header::try_from(header)?.addresses {
        v1::Addresses::Tcp4(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Tcp6(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}
// ANCHOR_END: client

// ANCHOR: serve
pub async fn serve<S>(stream: S, peer: SocketAddr) -> Result<(), Box<dyn Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // Holds what came with the header. hyper reads that first.
    let mut stream = BufReader::with_capacity(1024, stream);
    let header = timeout(PROXY_HEADER_TIMEOUT, read_header(&mut stream))
        .await
        .map_err(|_| "no PROXY header in time")??;
    let mut client = client(&header)?.unwrap_or(peer);
    client.set_ip(client.ip().to_canonical());

    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| handle(request, client)),
        )
        .await?;
    Ok(())
}
// ANCHOR_END: serve

// ANCHOR: accept
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // ANCHOR: trust
        if !TRUSTED.contains(&peer.ip().to_canonical()) {
            eprintln!("refused: {peer} is not one of our load balancers");
            continue;
        }
        // ANCHOR_END: trust
        tokio::spawn(async move {
            if let Err(error) = serve(stream, peer).await {
                eprintln!("connection from {peer} failed: {error}");
            }
        });
    }
}
// ANCHOR_END: accept
// ANCHOR_END: program
