// ANCHOR: program
//! A server that counts words. Each of its parts can be tested without the others.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// For the head of a request; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(10);
/// For the body of a request.
pub const BODY: Duration = Duration::from_secs(30);

/// Counts the words of a body. A frame may end in the middle of a word.
async fn words<B: Body<Data = Bytes>>(body: B) -> Result<u64, B::Error> {
    let mut body = pin!(body);
    let mut words = 0;
    let mut inside = false;
    while let Some(frame) = body.frame().await {
        for byte in frame?.into_data().unwrap_or_default() {
            let before = inside;
            inside = !byte.is_ascii_whitespace();
            words += u64::from(inside && !before);
        }
    }
    Ok(words)
}

// ANCHOR: handle
async fn handle<B>(request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
{
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/words") => {
            match timeout(BODY, words(request.into_body())).await {
                Ok(Ok(words)) => text(StatusCode::OK, format!("{words}\n")),
                Ok(Err(_)) => refuse(StatusCode::BAD_REQUEST),
                Err(_) => refuse(StatusCode::REQUEST_TIMEOUT),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    }
}
// ANCHOR_END: handle

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// The rest of the body is not read, so the connection cannot be used again.
fn refuse(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = text(status, format!("{status}\n"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

// ANCHOR: serve
/// Serves one connection, over any stream of bytes.
pub async fn serve<T>(stream: T) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let service =
        service_fn(|request| async { Ok::<_, Infallible>(handle(request).await) });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
// ANCHOR_END: serve

/// Accepts connections for ever.
pub async fn run(listener: TcpListener) {
    loop {
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("connection failed: {}", report(&error));
            }
        });
    }
}

/// An error with its causes: hyper's errors do not print theirs.
fn report(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    run(listener).await;
    Ok(())
}
// ANCHOR_END: program

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use http_body_util::channel::Channel;
    use hyper::client::conn::http1::handshake;
    use hyper::header::HOST;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::net::TcpStream;
    use tokio::runtime;
    use tokio::time::Instant;

    use super::*;

    /// For what takes no time. The machine may be busy.
    const LIMIT: Duration = Duration::from_secs(20);

    // ANCHOR: function
    #[tokio::test]
    async fn it_counts_in_the_handler() {
        let body = Full::from("to be or not");
        let request = Request::post("/words").body(body).unwrap();
        let response = handle(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "4\n");
    }
    // ANCHOR_END: function

    // ANCHOR: property
    proptest! {
        #[test]
        fn frames_do_not_matter(frames in vec("[ab \n]{0,3}", 0..8)) {
            let words = frames.concat().split_ascii_whitespace().count();
            let runtime =
                runtime::Builder::new_current_thread().enable_time().build()?;
            let answer = runtime.block_on(async {
                let (mut sender, body) = Channel::<Bytes>::new(8);
                for frame in &frames {
                    sender.send_data(frame.clone().into()).await.unwrap();
                }
                drop(sender);
                let request = Request::post("/words").body(body).unwrap();
                let body = handle(request).await.into_body();
                body.collect().await.unwrap().to_bytes()
            });
            prop_assert_eq!(answer, format!("{words}\n"));
        }
    }
    // ANCHOR_END: property

    // ANCHOR: post
    /// Sends a request over this stream, by hyper's client.
    async fn post<T>(stream: T, text: &'static str) -> (StatusCode, Bytes)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let answer = timeout(LIMIT, async {
            let (mut sender, conn) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(conn);
            let request = Request::post("/words").header(HOST, "localhost");
            let request = request.body(Full::<Bytes>::from(text)).unwrap();
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?;
            hyper::Result::Ok((status, body.to_bytes()))
        });
        answer.await.expect("an answer in time").unwrap()
    }
    // ANCHOR_END: post

    // ANCHOR: duplex
    #[tokio::test]
    async fn it_counts_over_a_duplex() {
        let (client, server) = duplex(64 * 1024);
        tokio::spawn(serve(server));
        let answer = post(client, "to be or not").await;
        assert_eq!(answer, (StatusCode::OK, "4\n".into()));
    }
    // ANCHOR_END: duplex

    // ANCHOR: socket
    #[tokio::test]
    async fn it_counts_over_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(run(listener));
        for _ in 0..2 {
            let stream = TcpStream::connect(address).await.unwrap();
            let answer = post(stream, "to be or not").await;
            assert_eq!(answer, (StatusCode::OK, "4\n".into()));
        }
    }
    // ANCHOR_END: socket

    // ANCHOR: head
    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_cut_off_in_time() {
        let (mut client, server) = duplex(1024);
        let start = Instant::now();
        tokio::spawn(serve(server));
        client.write_all(b"POST /words HTTP/1.1\r\nhost: ").await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(2 * HEAD, client.read_to_end(&mut answer)).await;
        closed.expect("the server closes the connection").unwrap();
        assert_eq!(answer, b"");
        assert_eq!(start.elapsed(), HEAD);
    }
    // ANCHOR_END: head

    // ANCHOR: body
    #[tokio::test(start_paused = true)]
    async fn half_a_body_is_refused_in_time() {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        sender.send_data("to be or".into()).await.unwrap();
        let request = Request::post("/words").body(body).unwrap();
        let response = timeout(2 * BODY, handle(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    }
    // ANCHOR_END: body
}
// ANCHOR_END: tests
