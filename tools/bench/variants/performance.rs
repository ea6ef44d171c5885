//! The server that Performance measures, with one thing changed: `performance ADDRESS [CHANGE]`.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tracing::{Instrument, info, info_span};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

static LARGE: [u8; 1 << 20] = [b'.'; 1 << 20];

fn content(path: &str) -> Bytes {
    Bytes::from_static(match path {
        "/1048576" => &LARGE,
        "/16384" => &LARGE[..16384],
        _ => b"Hello, World!",
    })
}

/// Reads the body of the request, and throws it away.
async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, mut body) = request.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(Response::new(Full::new(content(head.uri.path()))))
}

/// What is changed, and what TLS needs.
#[derive(Clone)]
struct Server {
    change: &'static str,
    tls: TlsAcceptor,
}

impl Server {
    async fn serve<S, B>(&self, stream: impl Stream, service: S) -> Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = hyper::Error>
            + Send,
        S::Future: Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let executor = TokioExecutor::new();
        match self.change {
            "http2" | "adaptive" | "tls-http2" => {
                let mut builder = http2::Builder::new(executor);
                builder
                    .timer(TokioTimer::new())
                    .adaptive_window(self.change == "adaptive");
                builder.serve_connection(io, service).await?;
            }
            "auto" => {
                let mut builder = auto::Builder::new(executor);
                builder.http1().timer(TokioTimer::new());
                builder.serve_connection(io, service).await?;
            }
            change => {
                let mut builder = http1::Builder::new();
                if change != "no-timer" {
                    builder.timer(TokioTimer::new());
                }
                if change == "flatten" {
                    builder.writev(false);
                }
                if change == "small-buffer" {
                    builder.max_buf_size(8 * 1024);
                }
                builder
                    .keep_alive(change != "keep-alive-off")
                    .pipeline_flush(change == "pipeline-flush");
                builder.serve_connection(io, service).await?;
            }
        }
        Ok(())
    }

    async fn connection(self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(self.change != "nagle")?;
        if self.change == "bbr" {
            // Some systems do not have it.
            socket2::SockRef::from(&stream).set_tcp_congestion(b"bbr").ok();
        }
        match self.change {
            "tls" | "tls-http2" => {
                let handshake = self.tls.accept(stream);
                let stream = timeout(Duration::from_secs(5), handshake).await??;
                self.serve(stream, service_fn(answer)).await
            }
            "boxed" => {
                let boxed = |request| async {
                    Ok(answer(request).await?.map(BodyExt::boxed))
                };
                self.serve(stream, service_fn(boxed)).await
            }
            "blocking" => {
                let blocking = |request: Request<Incoming>| async move {
                    let path = request.uri().path().to_owned();
                    let content = spawn_blocking(move || content(&path)).await;
                    Ok(Response::new(Full::new(content.expect("it does not panic"))))
                };
                self.serve(stream, service_fn(blocking)).await
            }
            "span" | "line" => {
                let line = self.change == "line";
                let traced = |request: Request<Incoming>| {
                    let (method, uri) = (request.method(), request.uri());
                    let span = info_span!("request", %method, %uri);
                    let answered = async move {
                        let response = answer(request).await;
                        if line {
                            info!("answered");
                        }
                        response
                    };
                    answered.instrument(span)
                };
                self.serve(stream, service_fn(traced)).await
            }
            _ => self.serve(stream, service_fn(answer)).await,
        }
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().connection(stream));
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Call it inside of a runtime.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

fn current_thread() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

fn acceptor(http2: bool) -> Result<TlsAcceptor> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut config =
        ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                key.signing_key.serialize_der().try_into()?,
            )?;
    let version = if http2 { "h2" } else { "http/1.1" };
    config.alpn_protocols = vec![version.into()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub fn main() -> Result<()> {
    let address = env::args().nth(1).ok_or("there is no address")?.parse()?;
    let change: &str = env::args().nth(2).unwrap_or_default().leak();
    let server = Server { change, tls: acceptor(change == "tls-http2")? };
    if matches!(change, "span" | "line") {
        tracing_subscriber::fmt().with_writer(io::stderr).init();
    }
    let runtime = match change {
        "current-thread" | "thread-per-core" => current_thread()?,
        _ => Runtime::new()?,
    };
    let listener = runtime.block_on(async { listen(address) })?;
    let address = listener.local_addr()?;
    if change == "thread-per-core" {
        for _ in 1..thread::available_parallelism()?.get() {
            let (server, runtime) = (server.clone(), current_thread()?);
            let listener = runtime.block_on(async { listen(address) })?;
            thread::spawn(move || runtime.block_on(server.accept(listener)));
        }
    }
    println!("listening on http://{address}");
    runtime.block_on(async {
        // The accept loop is a task, so that it runs where the connections do.
        tokio::spawn(server.accept(listener)).await
    })?;
    Ok(())
}
