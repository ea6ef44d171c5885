//! Stops over TLS and HTTP/2.
//!
//! Each server is put under one of three loads, and gets SIGTERM at a random moment. hyper's client
//! tells which requests were lost, and which are provably unprocessed. No request is repeated.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use std::{error, fs, io, thread};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid as Valid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};

use crate::server::{kill, listen, program};

const HTTP2_CONNECTIONS: usize = 16;
const STREAMS: usize = 8;
const HTTP1_CONNECTIONS: usize = HTTP2_CONNECTIONS * STREAMS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Http2InTheClear,
    Http2,
    Http1,
}
use Load::{Http1, Http2, Http2InTheClear};

struct Row {
    name: &'static str,
    /// Of the plain server.
    builder: &'static str,
    what: &'static str,
    loads: &'static [Load],
    /// Stops in each round. What is to lose nothing is stopped more often.
    stops: usize,
}

const ALL: &[Load] = &[Http2InTheClear, Http2, Http1];
const OVER_HTTP2: &[Load] = &[Http2InTheClear, Http2];

#[rustfmt::skip]
const ROWS: [Row; 9] = [
    Row { name: "plain-tls", builder: "version", what: "plain, `http1` and `http2` builders", loads: ALL, stops: 1 },
    Row { name: "plain-tls", builder: "auto", what: "plain, `auto` builder", loads: ALL, stops: 1 },
    Row { name: "zero-downtime-tls", builder: "", what: "this page's program", loads: ALL, stops: 4 },
    Row { name: "tls-without-header", builder: "", what: "without `connection: close`", loads: &[Http1], stops: 1 },
    Row { name: "tls-without-lame-duck", builder: "", what: "without the lame duck", loads: ALL, stops: 1 },
    Row { name: "tls-without-under-way", builder: "", what: "without accepting those under way", loads: ALL, stops: 1 },
    Row { name: "tls-without-no-handshakes", builder: "", what: "without the socket filter", loads: ALL, stops: 1 },
    Row { name: "tls-without-linger", builder: "", what: "without the linger", loads: &[Http1], stops: 1 },
    Row { name: "tls-early-goaway", builder: "", what: "GOAWAY at the signal", loads: OVER_HTTP2, stops: 1 },
];

/// What came of the requests, and of the attempts to connect.
#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    lost: AtomicUsize,
    /// Not answered, and provably not processed.
    safe: AtomicUsize,
    /// Connections cut before a request could be sent.
    cut: AtomicUsize,
}

pub fn measure(runs: usize, write: bool) {
    let counts: Vec<Vec<Counts>> = ROWS
        .iter()
        .map(|row| row.loads.iter().map(|_| Counts::default()).collect())
        .collect();
    // Round by round, so that what disturbs the machine disturbs all rows alike.
    for round in 0..runs {
        for (row, counts) in ROWS.iter().zip(&counts) {
            for (load, counts) in row.loads.iter().zip(counts) {
                for _ in 0..row.stops {
                    run(row, *load, counts);
                }
                let lost = counts.lost.load(Relaxed);
                eprintln!(
                    "round {}: {}, {load:?}: {lost} lost so far",
                    round + 1,
                    row.what
                );
            }
        }
    }
    let table = table(&counts, runs);
    print!("{table}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::write(results.join("tls.md"), table).unwrap();
        let crates = ["hyper", "hyper-util", "h2", "tokio", "tokio-rustls"];
        let environment = crate::environment(&crates, &[]);
        fs::write(results.join("tls-environment.md"), environment).unwrap();
    }
}

fn table(counts: &[Vec<Counts>], runs: usize) -> String {
    let mut text = format!(
        "HTTP/2: {HTTP2_CONNECTIONS} connections, {STREAMS} requests at a time on each. HTTP/1.1: \
        {HTTP1_CONNECTIONS} connections that stay open, with pauses of up to 5 ms. A request takes \
        20 ms.\n\n| server | stops | HTTP/2 in the clear | HTTP/2 over TLS | HTTP/1.1 over TLS |\n\
        |---|--:|--:|--:|--:|\n"
    );
    for (row, counts) in ROWS.iter().zip(counts) {
        text += &format!("| {} | {} ", row.what, row.stops * runs);
        for load in ALL {
            let Some(place) = row.loads.iter().position(|known| known == load) else {
                text += "| - ";
                continue;
            };
            let counts = &counts[place];
            let [answered, lost, safe, cut] =
                [&counts.answered, &counts.lost, &counts.safe, &counts.cut]
                    .map(|count| count.load(Relaxed));
            text += &format!(
                "| **{lost}**&nbsp;of&nbsp;{} ({safe};&nbsp;{cut}) ",
                answered + lost + safe
            );
        }
        text += "|\n";
    }
    text
}

/// One stop of one server under load.
fn run(row: &Row, load: Load, counts: &Counts) {
    let mut command = Command::new(program(row.name));
    command.arg("127.0.0.1:0").env("BUILDER", row.builder);
    if load == Http2InTheClear {
        command.env("CLEAR", "1");
    }
    let (mut child, address) = listen(&mut command);
    let sums = Arc::new(Counts::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clients = if load == Http1 { HTTP1_CONNECTIONS } else { HTTP2_CONNECTIONS };
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn_on(client(address, load, sums.clone()), runtime.handle());
    }
    thread::sleep(Duration::from_millis(1000 + fastrand::u64(0..200)));
    kill("-TERM", &child);
    // A client ends when it is refused.
    let ended = async { timeout(Duration::from_secs(60), tasks.join_all()).await };
    runtime.block_on(ended).expect("each client is refused in the end");
    child.wait().unwrap();
    for (sum, count) in [
        (&counts.answered, &sums.answered),
        (&counts.lost, &sums.lost),
        (&counts.safe, &sums.safe),
        (&counts.cut, &sums.cut),
    ] {
        sum.fetch_add(count.load(Relaxed), Relaxed);
    }
}

pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn connect_for(
    address: SocketAddr,
    load: Load,
) -> io::Result<TokioIo<Box<dyn Io>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if load == Http2InTheClear {
        return Ok(TokioIo::new(Box::new(stream)));
    }
    let version = if load == Http1 { "http/1.1" } else { "h2" };
    Ok(TokioIo::new(Box::new(connect(stream, version).await?)))
}

/// A handshake, with whatever certificate. The version is that of HTTP, in ALPN.
pub async fn connect(
    stream: TcpStream,
    version: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = vec![version.into()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Sends requests until it is refused.
async fn client(address: SocketAddr, load: Load, counts: Arc<Counts>) {
    loop {
        let io = match connect_for(address, load).await {
            Ok(io) => io,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
            Err(_) => {
                counts.cut.fetch_add(1, Relaxed);
                continue;
            }
        };
        let mut tasks = JoinSet::new();
        if load == Http1 {
            let Ok((mut sender, conn)) = http1::handshake(io).await else {
                counts.cut.fetch_add(1, Relaxed);
                continue;
            };
            tokio::spawn(conn);
            let counts = counts.clone();
            tasks.spawn(async move {
                while sender.ready().await.is_ok() {
                    sleep(Duration::from_micros(fastrand::u64(0..5000))).await;
                    if !whole(sender.try_send_request(request()), &counts).await {
                        break;
                    }
                }
            });
        } else {
            let Ok((sender, conn)) = http2::handshake(TokioExecutor::new(), io).await
            else {
                counts.cut.fetch_add(1, Relaxed);
                continue;
            };
            tokio::spawn(conn);
            for _ in 0..STREAMS {
                let (mut sender, counts) = (sender.clone(), counts.clone());
                tasks.spawn(async move {
                    while sender.ready().await.is_ok()
                        && whole(sender.try_send_request(request()), &counts).await
                    {
                    }
                });
            }
        }
        tasks.join_all().await;
    }
}

type Req = Request<Empty<Bytes>>;
type TrySendError = hyper::client::conn::TrySendError<Req>;

fn request() -> Req {
    let request = Request::get("http://localhost/").header("host", "localhost");
    request.body(Empty::new()).unwrap()
}

/// Counts what comes of a request: whether it was answered.
async fn whole(
    response: impl Future<Output = Result<Response<hyper::body::Incoming>, TrySendError>>,
    counts: &Counts,
) -> bool {
    let outcome = timeout(Duration::from_secs(20), async {
        match response.await {
            Ok(response) => match response.into_body().collect().await {
                Ok(_) => &counts.answered,
                Err(error) if is_unprocessed(&error) => &counts.safe,
                Err(_) => &counts.lost,
            },
            Err(mut error) => {
                if error.take_message().is_some() || is_unprocessed(error.error()) {
                    &counts.safe
                } else {
                    &counts.lost
                }
            }
        }
    });
    let count = outcome.await.unwrap_or(&counts.lost);
    count.fetch_add(1, Relaxed);
    std::ptr::eq(count, &counts.answered)
}

/// Whether the server has said that it did not begin this request.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut cause = error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            // For streams up to the last id, h2 reports no GOAWAY without an error.
            let above_last_id = error.is_go_away()
                && error.is_remote()
                && error.reason() == Some(h2::Reason::NO_ERROR);
            return above_last_id
                || error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = error.source();
    }
    false
}

/// Each server has made its certificate itself.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<Valid, Error> {
        Ok(Valid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<Valid, Error> {
        Ok(Valid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
