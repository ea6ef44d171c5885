//! How fast files are sent.
//!
//! Each server sends the same folder to the same clients, which keep their connections and ask again as
//! soon as they have a whole file. The servers take turns; what counts is the median of the rounds, and
//! its ratio to that of nginx with `sendfile off`, which also reads each byte and writes it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;
use std::{env, fs, thread};

use crate::server::{is_installed, kill, listen, nginx, program};

/// A file: its name, its size, and what asks for it in a round.
struct Case {
    name: &'static str,
    size: usize,
    clients: usize,
    /// Of each client.
    requests: usize,
}

const CASES: [Case; 3] = [
    Case { name: "1&nbsp;kB", size: 1_000, clients: 16, requests: 1_000 },
    Case { name: "100&nbsp;kB", size: 100_000, clients: 16, requests: 200 },
    Case { name: "100&nbsp;MB", size: 100_000_000, clients: 2, requests: 4 },
];

/// The servers, and what the table calls them. The first one is the measure.
const SERVERS: [(&str, &str); 7] = [
    ("sendfile off", "nginx, `sendfile off`"),
    ("sendfile on", "nginx, `sendfile on`"),
    ("files", "this page's program"),
    ("files-inline", "the same, opened without `spawn_blocking`"),
    ("files-4-kib", "this page's program, `PIECE` of 4&nbsp;KiB"),
    ("reader-stream", "`tokio::fs` and `ReaderStream`"),
    ("reader-stream nagle", "the same, without `set_nodelay`"),
];

/// A server in a process of its own.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        kill("-TERM", &self.0);
        self.0.wait().unwrap();
    }
}

fn start(name: &str, folder: &Path) -> (Running, SocketAddr) {
    let (child, address) = if name.starts_with("sendfile") {
        nginx(&format!(
            "{name}; keepalive_requests 100000000; types {{}}
    server {{ listen ADDRESS; root {}; }}",
            folder.display()
        ))
    } else {
        let mut words = name.split(' ');
        let mut command = Command::new(program(words.next().unwrap()));
        listen(command.arg("127.0.0.1:0").arg(folder).args(words))
    };
    (Running(child), address)
}

/// Prints the table, and writes it if it is to be written.
pub fn measure(rounds: usize, write: bool) {
    assert!(is_installed("nginx"), "nginx is the measure: install it");
    let folder = env::temp_dir().join(format!("bench-files-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for case in &CASES {
        fs::write(folder.join(case.size.to_string()), vec![b'.'; case.size]).unwrap();
    }
    // Files per second, by server, case and round.
    let mut rates = vec![vec![Vec::new(); CASES.len()]; SERVERS.len()];
    for round in 0..rounds {
        for ((name, _), rates) in SERVERS.iter().zip(&mut rates) {
            let (_server, address) = start(name, &folder);
            for (case, rates) in CASES.iter().zip(rates) {
                rates.push(rate(address, case));
            }
        }
        eprintln!("round {}", round + 1);
    }
    fs::remove_dir_all(&folder).unwrap();

    let mut text = String::from("| server |");
    CASES.iter().for_each(|case| text += &format!(" {} |", case.name));
    text += "\n|---|--:|--:|--:|\n";
    let medians: Vec<Vec<f64>> = rates
        .into_iter()
        .map(|rates| rates.into_iter().map(median).collect())
        .collect();
    for ((_, what), row) in SERVERS.iter().zip(&medians) {
        text += &format!("| {what} |");
        for ((case, rate), measure) in CASES.iter().zip(row).zip(&medians[0]) {
            let speed = if case.size < 1_000_000 {
                format!("{rate:.0}/s")
            } else {
                format!("{:.0}&nbsp;MB/s", rate * case.size as f64 / 1e6)
            };
            text += &format!(" {speed} **{:.2}** |", rate / measure);
        }
        text += "\n";
    }
    print!("{text}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let environment = crate::environment(
            &["hyper", "hyper-util", "tokio", "tokio-util", "cap-std"],
            &["nginx"],
        );
        fs::write(results.join("files.md"), text).unwrap();
        fs::write(results.join("files-environment.md"), environment).unwrap();
    }
}

/// How many files a second all clients together get.
fn rate(address: SocketAddr, case: &Case) -> f64 {
    let mut clients: Vec<TcpStream> = (0..case.clients)
        .map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
        .collect();
    // The first file finds everything cold.
    clients.iter_mut().for_each(|client| get(client, case.size));
    let start = Instant::now();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| (0..case.requests).for_each(|_| get(client, case.size)));
        }
    });
    (case.clients * case.requests) as f64 / start.elapsed().as_secs_f64()
}

/// Asks for a file and reads it to its end.
pub fn get(stream: &mut TcpStream, size: usize) {
    let request = format!("GET /{size} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut buffer = [0; 128 * 1024];
    let (mut read, mut expected) = (0, usize::MAX);
    while read < expected {
        let count = stream.read(&mut buffer[read.min(4096)..]).unwrap();
        assert!(count > 0, "the server closes the connection");
        read += count;
        if expected == usize::MAX
            && let Some(end) =
                buffer[..read].windows(4).position(|b| b == b"\r\n\r\n")
        {
            assert!(buffer.starts_with(b"HTTP/1.1 200"));
            expected = end + 4 + size;
        }
    }
    assert_eq!(read, expected);
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
