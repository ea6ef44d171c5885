// ANCHOR: program
//! The client: it sends each argument as a line, and prints the answers.

use std::env;
use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(10);
/// The longest line that it takes.
const MAX_LINE: u64 = 1024;

// ANCHOR: connect
async fn connect(address: &str) -> Result<TokioIo<Upgraded>, Box<dyn Error>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, conn) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async {
        if let Err(error) = conn.with_upgrades().await {
            eprintln!("connection failed: {error}");
        }
    });

    let request = Request::get("/")
        .header(HOST, address)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "shout")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS
        || !has(response.headers(), CONNECTION, "upgrade")
        || !has(response.headers(), UPGRADE, "shout")
    {
        return Err(format!("no upgrade, but {}", response.status()).into());
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await?))
}
// ANCHOR_END: connect

/// Whether a header, which is a list, has this element.
fn has(headers: &HeaderMap, name: HeaderName, element: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(element))
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".to_owned());
    let mut io = BufReader::new(timeout(STEP, connect(&address)).await??);
    for argument in arguments {
        let answer = async {
            io.write_all(format!("{argument}\n").as_bytes()).await?;
            let mut line = String::new();
            (&mut io).take(MAX_LINE).read_line(&mut line).await?;
            if line.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            Ok(line)
        };
        print!("{}", timeout(STEP, answer).await??);
    }
    Ok(())
}
// ANCHOR_END: main
// ANCHOR_END: program
