// ANCHOR: program
//! A client: GET requests over one connection, one after the other.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

// ANCHOR: limits
/// For the connect, and again for each request and its response.
const TIME: Duration = Duration::from_secs(10);
/// The largest body that it keeps in memory.
const MAX_BODY: usize = 1024 * 1024;
// ANCHOR_END: limits

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: report
/// An error with its causes: hyper's errors do not print theirs.
fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}
// ANCHOR_END: report

// ANCHOR: target
/// What a URL says.
pub struct Target {
    /// Where to connect: `example.com:80`, `[::1]:3000`.
    pub address: String,
    /// The `host` header: the host, and the port if the URL has one.
    pub host: String,
    /// The path and the query.
    pub path: String,
}

pub fn target(url: &str) -> Result<Target, BoxError> {
    let url: Uri = url.parse()?;
    match url.scheme_str() {
        Some("http") => {}
        Some("https") => return Err("https needs TLS, and this is plain TCP".into()),
        _ => return Err("the URL does not begin with http://".into()),
    }
    // ANCHOR_END: target

    // ANCHOR: host
    let authority = url.authority().map_or("", |authority| authority.as_str());
    // Not `user:password@`: the `host` header is no place for it.
    let host = authority.rsplit('@').next().unwrap_or_default();
    let address = match url.host() {
        None | Some("") => return Err("the URL has no host".into()),
        Some(name) if name == host => format!("{host}:80"),
        Some(_) => host.to_owned(),
    };
    let path = url.path_and_query().map_or("/".to_owned(), ToString::to_string);
    Ok(Target { address, host: host.to_owned(), path })
}
// ANCHOR_END: host

// ANCHOR: connect
pub async fn connect(address: &str) -> Result<SendRequest<Empty<Bytes>>, BoxError> {
    let stream = timeout(TIME, TcpStream::connect(address)).await??;
    let (sender, conn) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = conn.await {
            eprintln!("connection failed: {}", report(&error));
        }
    });
    Ok(sender)
}
// ANCHOR_END: connect

// ANCHOR: get
pub async fn get(
    sender: &mut SendRequest<Empty<Bytes>>,
    target: &Target,
) -> Result<Response<Bytes>, BoxError> {
    let request =
        Request::get(&target.path).header(HOST, &target.host).body(Empty::new())?;
    timeout(TIME, async {
        sender.ready().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    })
    .await?
}
// ANCHOR_END: get

// ANCHOR: run
async fn run(urls: &[Target]) -> Result<(), BoxError> {
    let first = urls.first().ok_or("usage: basic http://HOST[:PORT]/PATH ...")?;
    if urls.iter().any(|url| url.address != first.address) {
        return Err("one connection leads to one server".into());
    }
    let mut sender = connect(&first.address).await?;
    for url in urls {
        let response = get(&mut sender, url).await?;
        let mut stdout = io::stdout();
        writeln!(stdout, "{}", response.status())?;
        stdout.write_all(response.body())?;
    }
    Ok(())
}
// ANCHOR_END: run

// ANCHOR: main
#[tokio::main]
async fn main() -> ExitCode {
    let urls: Result<Vec<_>, _> =
        env::args().skip(1).map(|url| target(&url)).collect();
    let result = match urls {
        Ok(urls) => run(&urls).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report(&*error));
            ExitCode::FAILURE
        }
    }
}
// ANCHOR_END: main
// ANCHOR_END: program
