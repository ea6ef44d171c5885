//! A plain graceful shutdown over TLS: close the listener, then `shutdown()`. BUILDER says whether
//! `auto` finds the version, or ALPN. With CLEAR it serves HTTP/2 without TLS.

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

async fn handle(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    sleep(Duration::from_millis(20)).await;
    Ok(Response::new(Full::from("done\n")))
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_http2: bool,
    watcher: Watcher,
) -> Result<()> {
    let (io, service) = (TokioIo::new(stream), service_fn(handle));
    let executor = TokioExecutor::new();
    if env::var("BUILDER").as_deref() == Ok("auto") {
        let mut builder = auto::Builder::new(executor);
        builder.http1().timer(TokioTimer::new());
        watcher.watch(builder.serve_connection(io, service).into_owned()).await
    } else if is_http2 {
        let conn = http2::Builder::new(executor).serve_connection(io, service);
        Ok(watcher.watch(conn).await?)
    } else {
        let mut builder = http1::Builder::new();
        let conn = builder.timer(TokioTimer::new()).serve_connection(io, service);
        Ok(watcher.watch(conn).await?)
    }
}

async fn accept(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    watcher: Watcher,
) -> Result<()> {
    if env::var_os("CLEAR").is_some() {
        return serve(stream, true, watcher).await;
    }
    let stream = timeout(Duration::from_secs(5), acceptor.accept(stream)).await??;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    serve(stream, is_http2, watcher).await
}

#[tokio::main]
async fn main() -> Result<()> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut config =
        ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                key.signing_key.serialize_der().try_into()?,
            )?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(env::args().nth(1).unwrap()).await?;
    println!("listening on https://{}", listener.local_addr()?);
    let graceful = GracefulShutdown::new();
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let conn = accept(accepted?.0, acceptor.clone(), graceful.watcher());
                tokio::spawn(conn);
            }
            _ = terminate.recv() => break,
        }
    }
    drop(listener);
    timeout(Duration::from_secs(10), graceful.shutdown()).await.ok();
    Ok(())
}
