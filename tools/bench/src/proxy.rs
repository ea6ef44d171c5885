//! How fast proxies are, and what they make of requests with two meanings.
//!
//! The same nginx answers behind each of them, and the same clients ask. The proxies take turns; what counts is
//! the median of the rounds, and its ratio to that of nginx as a proxy.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{is_installed, kill, listen, nginx, program};
use crate::smuggling::{self, Backend};

/// An answer: its size, and how many each client asks for in a round.
struct Case {
    name: &'static str,
    size: usize,
    requests: usize,
}

const CLIENTS: usize = 64;
const CASES: [Case; 2] = [
    Case { name: "1&nbsp;kB", size: 1_000, requests: 500 },
    Case { name: "1&nbsp;MB", size: 1_000_000, requests: 30 },
];

/// The proxies, and what the table calls them. The first one is the measure.
const PROXIES: [(&str, &str); 4] = [
    ("nginx", "nginx"),
    ("proxy", "this page's program"),
    ("bare-proxy", "hyper's server and client alone"),
    ("none", "the backend, without a proxy"),
];

/// A server in a process of its own.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            kill("-TERM", child);
            child.wait().unwrap();
        }
    }
}

fn start(name: &str, listens: &str, backend: SocketAddr) -> (Running, SocketAddr) {
    let (child, address) = match name {
        "none" => return (Running(None), backend),
        "nginx" => nginx(&format!(
            "upstream behind {{ server {backend}; keepalive 128; }}
    server {{
        listen {listens}; keepalive_requests 100000000;
        location / {{
            proxy_pass http://behind; proxy_http_version 1.1;
            proxy_set_header Connection \"\"; proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}"
        )),
        _ => {
            let mut command = Command::new(program(name));
            listen(command.arg("127.0.0.1:0").arg(backend.to_string()))
        }
    };
    (Running(Some(child)), address)
}

/// What one proxy did in one round of one case.
struct Sample {
    per_second: f64,
    p99: Duration,
}

/// Prints the tables, and writes them if they are to be written.
pub fn measure(rounds: usize, write: bool) {
    assert!(is_installed("nginx"), "nginx is the measure: install it");
    let folder = env::temp_dir().join(format!("bench-proxy-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for case in &CASES {
        fs::write(folder.join(case.size.to_string()), vec![b'.'; case.size]).unwrap();
    }
    let (backend, backend_address) = nginx(&format!(
        "sendfile on; tcp_nopush on; keepalive_requests 100000000; types {{}}
    server {{ listen ADDRESS; root {}; }}",
        folder.display()
    ));
    let backend = Running(Some(backend));
    let mut samples: Vec<Vec<Vec<Sample>>> =
        PROXIES.iter().map(|_| CASES.iter().map(|_| Vec::new()).collect()).collect();
    for round in 0..rounds {
        for ((name, _), samples) in PROXIES.iter().zip(&mut samples) {
            let (_proxy, address) = start(name, "ADDRESS", backend_address);
            for (case, samples) in CASES.iter().zip(samples) {
                samples.push(sample(address, case));
            }
        }
        eprintln!("round {}", round + 1);
    }
    drop(backend);
    fs::remove_dir_all(&folder).unwrap();

    let mut speed = format!(
        "{CLIENTS} clients ask again and again for a file, which the same nginx sends to each proxy.\n\n| proxy |"
    );
    for case in &CASES {
        speed += &format!(" {} | 99th percentile |", case.name);
    }
    speed += "\n|---|--:|--:|--:|--:|\n";
    let medians: Vec<Vec<(f64, f64)>> =
        samples.iter().map(|row| row.iter().map(|s| medians(s)).collect()).collect();
    for ((_, what), row) in PROXIES.iter().zip(&medians) {
        speed += &format!("| {what} |");
        for ((rate, p99), measure) in row.iter().zip(&medians[0]) {
            speed += &format!(
                " {rate:.0}/s **{:.2}** | {:.1}&nbsp;ms **{:.2}** |",
                rate / measure.0,
                p99 * 1e3,
                p99 / measure.1
            );
        }
        speed += "\n";
    }
    let smuggling = smuggling_table();
    print!("{speed}\n{smuggling}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let environment =
            crate::environment(&["hyper", "hyper-util", "tokio"], &["nginx"]);
        fs::write(results.join("proxy.md"), speed).unwrap();
        fs::write(results.join("smuggling.md"), smuggling).unwrap();
        fs::write(results.join("proxy-environment.md"), environment).unwrap();
    }
}

fn medians(samples: &[Sample]) -> (f64, f64) {
    let median = |values: Vec<f64>| crate::files::median(values);
    (
        median(samples.iter().map(|sample| sample.per_second).collect()),
        median(samples.iter().map(|sample| sample.p99.as_secs_f64()).collect()),
    )
}

fn sample(address: SocketAddr, case: &Case) -> Sample {
    let mut clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
        .collect();
    // The first answers find no connection to the backend.
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| get(client, case.size));
        }
    });
    let start = Instant::now();
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let asking: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(|| {
                    (0..case.requests)
                        .map(|_| get(client, case.size))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        asking.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let per_second = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort();
    Sample { per_second, p99: times[times.len() * 99 / 100] }
}

/// Asks for an answer and reads it to its end: how long it took.
fn get(stream: &mut TcpStream, size: usize) -> Duration {
    let start = Instant::now();
    crate::files::get(stream, size);
    start.elapsed()
}

/// What each proxy makes of each vector.
fn smuggling_table() -> String {
    let columns = ["proxy", "nginx"].map(|name| {
        let backend = Backend::start();
        let (proxy, address) = start(name, "ADDRESS", backend.address);
        // In nginx a port speaks one version.
        let (proxy2, address2) = start(name, "ADDRESS http2", backend.address);
        let statuses = smuggling::send(address, address2);
        drop((proxy, proxy2));
        backend.outcomes(statuses)
    });
    let mut text = String::new();
    for (i, what) in smuggling::names().enumerate() {
        let version = match i {
            0 => "HTTP/1",
            _ if i == smuggling::http1_count() => "HTTP/2",
            _ => "",
        };
        if !version.is_empty() {
            text +=
                &format!("\n| {version} | this program | nginx |\n|---|---|---|\n");
        }
        text += &format!("| {what} | {} | {} |\n", columns[0][i], columns[1][i]);
    }
    text.trim_start().to_owned()
}
