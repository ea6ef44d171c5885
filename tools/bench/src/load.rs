//! The load generator of `performance`: one thread, and as many connections as it is told to.
//!
//!     bench load ADDRESS KIND CONNECTIONS PATH SECONDS [RATE]
//!
//! It prints how many responses came in all, its own CPU time in seconds, how many came in each second after the warm-up, and the median and
//! the 99th percentile of their times in µs. A client sends its next request as soon as it has the whole
//! response. With a rate there is one client, which sends its requests when they are due, and two more
//! times: from when each was due.
//!
//!     bench idle ADDRESS KIND CONNECTIONS PATH
//!
//! sends one request on each connection, prints a line, and keeps the connections until it is killed.
//!
//! It looks at the length of the first response of a connection, and then only counts bytes: it must be
//! cheaper than the servers.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::tls::{self, Io};

const WARM_UP: Duration = Duration::from_millis(100);
/// Requests at a time on a connection, with `pipeline`.
const PIPELINED: usize = 16;
const UPLOAD: usize = 1 << 20;

/// What a client does.
#[derive(Clone)]
struct Kind {
    address: SocketAddr,
    path: String,
    tls: bool,
    http2: bool,
    /// A connection for each request.
    fresh: bool,
    upload: bool,
    pipelined: usize,
}

impl Kind {
    fn new(arguments: &[String]) -> Kind {
        let has = |word| arguments[1].split(' ').any(|it| it == word);
        Kind {
            address: arguments[0].parse().unwrap(),
            path: arguments[3].clone(),
            tls: has("tls"),
            http2: has("http2"),
            fresh: has("fresh"),
            upload: has("upload"),
            pipelined: if has("pipeline") { PIPELINED } else { 1 },
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        if self.fresh {
            // The port is free again at once.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        if !self.tls {
            return Ok(Box::new(stream));
        }
        let version = if self.http2 { "h2" } else { "http/1.1" };
        Ok(Box::new(tls::connect(stream, version).await?))
    }

    async fn connect_http2(&self) -> SendRequest<Full<Bytes>> {
        let io = TokioIo::new(self.connect().await.unwrap());
        let (sender, conn) =
            http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(conn);
        sender
    }

    /// A whole request of HTTP/1.
    fn bytes(&self) -> Vec<u8> {
        let (path, upload) = (&self.path, UPLOAD);
        if self.upload {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {upload}\r\n\r\n"
            );
            [head.as_bytes(), &vec![b'.'; upload]].concat()
        } else {
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
        }
    }

    async fn exchange_http2(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        body: &Bytes,
    ) {
        let method = if self.upload { "POST" } else { "GET" };
        let uri = format!("http://localhost{}", self.path);
        let request = Request::builder().method(method).uri(uri);
        let request = request.body(Full::new(body.clone())).unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
    }
}

/// A connection of HTTP/1.
struct Connection {
    stream: Box<dyn Io>,
    buffer: Vec<u8>,
    /// The length of a response with its head, once it is known.
    length: Option<usize>,
}

impl Connection {
    async fn new(kind: &Kind) -> io::Result<Connection> {
        let stream = kind.connect().await?;
        Ok(Connection { stream, buffer: vec![0; 256 * 1024], length: None })
    }

    async fn exchange(&mut self, request: &[u8], at_once: usize) -> io::Result<()> {
        exchange(
            &mut self.stream,
            &mut self.buffer,
            &mut self.length,
            request,
            at_once,
        )
        .await
    }
}

async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buffer: &mut [u8],
    length: &mut Option<usize>,
    request: &[u8],
    at_once: usize,
) -> io::Result<()> {
    stream.write_all(request).await?;
    let mut read = 0;
    while length.is_none_or(|length| read < length * at_once) {
        // The beginning of the first response stays until its head is whole.
        let from = if length.is_none() { read } else { 0 };
        let count = stream.read(&mut buffer[from..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if read == 0 {
            assert!(buffer.starts_with(b"HTTP/1.1 200"));
        }
        read += count;
        if length.is_none() {
            let end = buffer[..read].windows(4).position(|it| it == b"\r\n\r\n");
            let Some(end) = end else { continue };
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let size =
                head.lines().find_map(|it| it.strip_prefix("content-length: "));
            *length = Some(end + 4 + size.unwrap().parse::<usize>().unwrap());
        }
    }
    assert_eq!(Some(read), length.map(|length| length * at_once));
    Ok(())
}

/// What the clients have seen. All run on one thread.
struct Seen {
    from: Instant,
    to: Instant,
    all: usize,
    /// In µs, from when a request was sent, and from when it was due.
    times: Vec<(f64, f64)>,
}

impl Seen {
    /// Takes note of responses. Whether there is time for more.
    fn took(&mut self, due: Instant, sent: Instant, count: usize) -> bool {
        let now = Instant::now();
        self.all += count;
        if now >= self.from && now < self.to {
            let micros = |from| now.duration_since(from).as_secs_f64() * 1e6;
            self.times.extend(vec![(micros(sent), micros(due)); count]);
        }
        now < self.to
    }
}

#[tokio::main(flavor = "current_thread")]
pub async fn run(arguments: &[String]) {
    let kind = Kind::new(arguments);
    let connections: usize = arguments[2].parse().unwrap();
    let seconds: f64 = arguments[4].parse().unwrap();
    let rate: Option<u32> = arguments.get(5).map(|rate| rate.parse().unwrap());
    let from = Instant::now() + WARM_UP;
    let to = from + Duration::from_secs_f64(seconds);
    let seen = Rc::new(RefCell::new(Seen { from, to, all: 0, times: Vec::new() }));
    let tasks = LocalSet::new();
    if kind.http2 {
        let sender = kind.connect_http2().await;
        for _ in 0..connections {
            let (kind, seen, mut sender) =
                (kind.clone(), seen.clone(), sender.clone());
            tasks.spawn_local(async move {
                let body = vec![b'.'; if kind.upload { UPLOAD } else { 0 }].into();
                loop {
                    let sent = Instant::now();
                    kind.exchange_http2(&mut sender, &body).await;
                    if !seen.borrow_mut().took(sent, sent, 1) {
                        return;
                    }
                }
            });
        }
    } else {
        for _ in 0..connections {
            let client = client(kind.clone(), seen.clone(), rate);
            tasks.spawn_local(async { client.await.unwrap() });
        }
    }
    tasks.await;
    let seen = seen.borrow();
    assert!(!seen.times.is_empty(), "{arguments:?}: no response came in time");
    let of = |which: fn(&(f64, f64)) -> f64| {
        let mut times: Vec<f64> = seen.times.iter().map(which).collect();
        times.sort_by(f64::total_cmp);
        [times[times.len() / 2], times[times.len() * 99 / 100]]
    };
    let ([median, p99], [median_due, p99_due]) = (of(|it| it.0), of(|it| it.1));
    let rate = seen.times.len() as f64 / seconds;
    let own = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    let own = own.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9;
    println!(
        "{} {own:.3} {rate:.1} {median:.1} {p99:.1} {median_due:.1} {p99_due:.1}",
        seen.all
    );
}

async fn client(
    kind: Kind,
    seen: Rc<RefCell<Seen>>,
    rate: Option<u32>,
) -> io::Result<()> {
    let request = kind.bytes().repeat(kind.pipelined);
    let mut connection = Connection::new(&kind).await?;
    // Linux asks again after a second.
    let late =
        "a client had to wait for its connection: the server's backlog is too small";
    assert!(Instant::now() < seen.borrow().from, "{late}");
    let mut due = Instant::now();
    loop {
        if let Some(rate) = rate {
            due += Duration::from_secs(1) / rate;
            // It is the only client, and a timer of tokio is not exact enough.
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let sent = Instant::now();
        if kind.fresh {
            connection.stream = kind.connect().await?;
        }
        connection.exchange(&request, kind.pipelined).await?;
        let due = if rate.is_some() { due } else { sent };
        if !seen.borrow_mut().took(due, sent, kind.pipelined) {
            return Ok(());
        }
    }
}

#[tokio::main(flavor = "current_thread")]
pub async fn idle(arguments: &[String]) {
    let kind = Kind::new(arguments);
    let (mut connections, mut senders) = (Vec::new(), Vec::new());
    let request = kind.bytes();
    for _ in 0..arguments[2].parse().unwrap() {
        if kind.http2 {
            let mut sender = kind.connect_http2().await;
            kind.exchange_http2(&mut sender, &Bytes::new()).await;
            senders.push(sender);
        } else {
            let mut connection = Connection::new(&kind).await.unwrap();
            connection.exchange(&request, 1).await.unwrap();
            connection.buffer = Vec::new();
            connections.push(connection);
        }
    }
    println!("idle");
    std::future::pending().await
}
