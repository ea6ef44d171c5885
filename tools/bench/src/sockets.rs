//! What options of sockets do: ways to accept, and `TCP_NODELAY`.
//!
//! The servers take turns; what counts is the median of the rounds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, thread};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::files::median;
use crate::server::{kill, listen, program};

/// Ways to accept: the argument of the server, and what the table calls it.
const WAYS: [(&str, &str); 4] = [
    ("one", "one listener, one accept loop"),
    ("tasks", "one listener, four accept loops"),
    ("listeners", "four listeners with `SO_REUSEPORT`, a loop each"),
    ("threads", "the same, with a single-threaded runtime each"),
];
const CLIENTS: usize = 16;
const ACCEPTING: Duration = Duration::from_secs(2);

/// Responses: the path, and what the table calls it.
const RESPONSES: [(&str, &str); 3] = [
    ("/", "one piece"),
    ("/ready", "five pieces, ready at once"),
    ("/paused", "five pieces, `sleep` of 1&nbsp;ms between them"),
];
/// On each connection. The first ones are not measured: Linux acknowledges the first packets of a
/// connection at once.
const REQUESTS: usize = 60;
const UNMEASURED: usize = 30;

/// A server in a process of its own.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        kill("-KILL", &self.0);
        self.0.wait().unwrap();
    }
}

fn start(way: &str, loops: usize) -> (Running, SocketAddr) {
    let mut command = Command::new(program("sockets"));
    let (child, address) =
        listen(command.arg("127.0.0.1:0").arg(way).arg(loops.to_string()));
    // All loops are there.
    thread::sleep(Duration::from_millis(100));
    (Running(child), address)
}

/// Prints the tables, and writes them if they are to be written.
pub fn measure(rounds: usize, write: bool) {
    let mut accepted = vec![(Vec::new(), Vec::new(), Vec::new()); WAYS.len()];
    // Milliseconds, by response, then version, then option.
    let mut times = vec![vec![Vec::new(); 4]; RESPONSES.len()];
    for round in 0..rounds {
        for ((way, _), (rates, least, most)) in WAYS.iter().zip(&mut accepted) {
            let loops = if *way == "one" { 1 } else { 4 };
            let (_server, address) = start(way, loops);
            let (rate, shares) = accept(address);
            rates.push(rate);
            least.push(shares.iter().copied().fold(f64::INFINITY, f64::min));
            most.push(shares.iter().copied().fold(0.0, f64::max));
        }
        for (option, way) in ["nagle", "nodelay"].into_iter().enumerate() {
            let (_server, address) = start(way, 1);
            for ((path, _), times) in RESPONSES.iter().zip(&mut times) {
                for http2 in [false, true] {
                    let time = median(stream(address, path, http2));
                    times[usize::from(http2) * 2 + option].push(time);
                }
            }
        }
        eprintln!("round {}", round + 1);
    }

    let mut accept = String::from(
        "| server | connections per second | of them, each loop had |\n|---|--:|:-:|\n",
    );
    for ((_, what), (rates, least, most)) in WAYS.iter().zip(accepted) {
        accept += &format!(
            "| {what} | {:.0} | {:.0}&nbsp;to&nbsp;{:.0}&nbsp;% |\n",
            median(rates),
            median(least),
            median(most)
        );
    }
    let mut nodelay = String::from(
        "| response | HTTP/1, default | HTTP/1, `TCP_NODELAY` | HTTP/2, default | HTTP/2, `TCP_NODELAY` |\n|---|--:|--:|--:|--:|\n",
    );
    for ((_, what), times) in RESPONSES.iter().zip(times) {
        nodelay += &format!("| {what} |");
        for times in times {
            nodelay += &format!(" {:.2}&nbsp;ms |", median(times));
        }
        nodelay += "\n";
    }
    println!("{accept}\n{nodelay}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let environment = crate::environment(&["hyper", "hyper-util", "tokio"], &[]);
        fs::write(results.join("accept.md"), accept).unwrap();
        fs::write(results.join("nodelay.md"), nodelay).unwrap();
        fs::write(results.join("sockets-environment.md"), environment).unwrap();
    }
}

/// Connections per second, each with one request; and the share of each accept loop, in percent.
fn accept(address: SocketAddr) -> (f64, Vec<f64>) {
    let served = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while start.elapsed() < ACCEPTING {
                    get(address, "/");
                    served.fetch_add(1, Relaxed);
                }
            });
        }
    });
    let rate = served.into_inner() as f64 / start.elapsed().as_secs_f64();
    let counts: Vec<f64> = get(address, "/counts")
        .split(' ')
        .map(|count| count.parse().unwrap())
        .collect();
    let all: f64 = counts.iter().sum();
    (rate, counts.into_iter().map(|count| 100.0 * count / all).collect())
}

/// Asks on a connection of its own; the body.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // The port is free again at once.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the server closes the connection");
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() == length {
                return body.to_owned();
            }
        }
    }
}

/// How many milliseconds pass from a request to the end of its response, one after the other.
#[tokio::main(flavor = "current_thread")]
async fn stream(address: SocketAddr, path: &str, http2: bool) -> Vec<f64> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let io = TokioIo::new(stream);
    let request = || {
        let uri = format!("http://{address}{path}");
        let builder = Request::builder().header("host", "x");
        builder
            .uri(if http2 { &uri } else { path })
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    let mut times = Vec::new();
    macro_rules! measure {
        ($handshake:expr) => {{
            let (mut sender, conn) = $handshake.await.unwrap();
            tokio::spawn(conn);
            for _ in 0..REQUESTS {
                sender.ready().await.unwrap();
                let start = Instant::now();
                let response = sender.send_request(request()).await.unwrap();
                response.into_body().collect().await.unwrap();
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }};
    }
    if http2 {
        measure!(hyper::client::conn::http2::handshake(TokioExecutor::new(), io));
    } else {
        measure!(hyper::client::conn::http1::handshake(io));
    }
    times.split_off(UNMEASURED)
}
