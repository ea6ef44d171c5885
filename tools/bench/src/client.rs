//! The clients: what each request of theirs comes to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How a client behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keeps its connection, and pauses up to 5 ms between requests.
    KeepAlive,
    /// Connects for each request.
    Fresh,
    /// Keeps its connection; each request takes two seconds.
    Slow,
}

/// What came of a request, or of the attempt to connect for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Answered,
    /// Lost on a connection that had carried a request before.
    LostReused,
    /// Lost as the first request of its connection, which the server closed.
    LostFreshClosed,
    /// Lost as the first request of its connection, which the server's system reset: nobody had
    /// accepted the connection, or nobody had read from it.
    LostFreshReset,
    /// There was nobody to connect to.
    Refused,
}

impl Outcome {
    pub fn is_lost(self) -> bool {
        !matches!(self, Outcome::Answered | Outcome::Refused)
    }
}

/// A request that has come to an end.
#[derive(Clone, Copy)]
pub struct Event {
    pub outcome: Outcome,
    /// In seconds from the signal.
    pub at: f64,
}

/// Sends requests until `end`, or, without one, until a connection is refused.
pub fn run(
    address: SocketAddr,
    kind: Kind,
    signal: Instant,
    end: Option<Instant>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut event = |outcome| {
        let now = Instant::now();
        let at = now.saturating_duration_since(signal).as_secs_f64()
            - signal.saturating_duration_since(now).as_secs_f64();
        events.push(Event { outcome, at });
    };
    let over = || end.is_some_and(|end| Instant::now() >= end);
    'connect: while !over() {
        let mut stream = match TcpStream::connect(address) {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                event(Outcome::Refused);
                if end.is_none() {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
                continue;
            }
            // The handshake was cut short: a connection that nobody had accepted.
            Err(_) => {
                event(Outcome::LostFreshReset);
                continue;
            }
        };
        stream.set_nodelay(true).unwrap();
        let mut reused = false;
        while !over() {
            if kind == Kind::KeepAlive {
                thread::sleep(Duration::from_micros(fastrand::u64(0..5000)));
            }
            if reused && is_closed(&stream) {
                continue 'connect;
            }
            match request(&mut stream, kind) {
                Ok(close) => {
                    event(Outcome::Answered);
                    if close || kind == Kind::Fresh {
                        continue 'connect;
                    }
                }
                Err(error) => {
                    event(match error.kind() {
                        _ if reused => Outcome::LostReused,
                        io::ErrorKind::UnexpectedEof => Outcome::LostFreshClosed,
                        _ => Outcome::LostFreshReset,
                    });
                    continue 'connect;
                }
            }
            reused = true;
        }
    }
    events
}

/// Whether the server has closed the connection: what a careful client looks at before it sends.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    closed
}

/// Sends one request and reads the whole response: whether it says `connection: close`.
fn request(stream: &mut TcpStream, kind: Kind) -> io::Result<bool> {
    let path = if kind == Kind::Slow { "/slow" } else { "/" };
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        response.extend(&buffer[..count]);
        let Some(end) = response.windows(4).position(|bytes| bytes == b"\r\n\r\n")
        else {
            continue;
        };
        let head = String::from_utf8_lossy(&response[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let header = |name| head.lines().find_map(|line| line.strip_prefix(name));
        let length: usize = header("content-length: ").unwrap().parse().unwrap();
        if response.len() >= end + 4 + length {
            return Ok(header("connection: ") == Some("close"));
        }
    }
}
