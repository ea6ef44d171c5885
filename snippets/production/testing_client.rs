// ANCHOR: program
//! A client that lets the server count the words of its arguments.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the connect, and again for the request and its response.
const TIME: Duration = Duration::from_secs(10);
/// The longest answer that it reads.
const MAX_ANSWER: usize = 1024;

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: count
/// Sends one request over this stream, and reads the answer.
async fn count<T>(stream: T, url: &Uri, text: String) -> Result<String, BoxError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let answer = timeout(TIME, exchange(stream, url, text)).await;
    answer.map_err(|_| "no answer in time")?
}
// ANCHOR_END: count

async fn exchange<T>(stream: T, url: &Uri, text: String) -> Result<String, BoxError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, conn) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors also end the request.
    tokio::spawn(conn);
    let host = url.authority().ok_or("the URL has no host")?.as_str();
    let request = Request::post(url.path())
        .header(HOST, host)
        .body(Full::<Bytes>::from(text))?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(format!("the server says {}", response.status()).into());
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?;
    Ok(String::from_utf8(body.to_bytes().into())?)
}

async fn run() -> Result<String, BoxError> {
    let usage = "usage: testing-client http://HOST:PORT/words TEXT ...";
    let mut arguments = env::args().skip(1);
    let url: Uri = arguments.next().ok_or(usage)?.parse()?;
    if url.scheme_str() != Some("http") {
        return Err(usage.into());
    }
    let text: Vec<String> = arguments.collect();
    let address = url.authority().ok_or(usage)?.as_str();
    let stream = timeout(TIME, TcpStream::connect(address)).await??;
    count(stream, &url, text.join(" ")).await
}

/// An error with its causes: hyper's errors do not print theirs.
fn report(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(answer) => {
            print!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", report(&*error));
            ExitCode::FAILURE
        }
    }
}
// ANCHOR_END: program

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const URL: &str = "http://localhost:3000/words";

    // ANCHOR: script
    /// Reads the request, sends these bytes, and hangs up.
    async fn script(mut stream: DuplexStream, answer: &'static str) {
        let mut request = Vec::new();
        while !request.ends_with(b"to be or not") {
            let read = stream.read_buf(&mut request).await.unwrap();
            assert_ne!(read, 0, "the client hangs up");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    /// What the client makes of this answer.
    async fn ask(answer: &'static str) -> Result<String, String> {
        let (client, server) = duplex(64 * 1024);
        let script = tokio::spawn(script(server, answer));
        let url = Uri::from_static(URL);
        let result = count(client, &url, "to be or not".to_owned()).await;
        script.await.unwrap();
        result.map_err(|error| report(&*error))
    }
    // ANCHOR_END: script

    // ANCHOR: breaks_off
    #[tokio::test]
    async fn a_server_that_breaks_off() {
        let whole = ask("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n12\n").await;
        assert_eq!(whole.unwrap(), "12\n");
        let half = ask("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n1").await;
        assert_eq!(
            half.unwrap_err(),
            "error reading a body from connection: \
             end of file before message length reached"
        );
    }
    // ANCHOR_END: breaks_off

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer() {
        let (client, _server) = duplex(64 * 1024);
        let url = Uri::from_static(URL);
        let answer = count(client, &url, "to be or not".to_owned());
        let error = timeout(2 * TIME, answer).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "no answer in time");
    }
}
// ANCHOR_END: tests
