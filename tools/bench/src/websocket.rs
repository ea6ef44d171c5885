//! How many WebSocket messages a second come back.
//!
//! Each client sends a message, waits until it is back, and sends the next one. The clients do no
//! more than they must: their frames are made in advance, and only the length of the answer is looked
//! at. The servers take turns; what counts is the median of the rounds.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use crate::files::{Running, median};
use crate::server::{listen, program};

/// Messages: their size, and what is sent in a round.
struct Case {
    name: &'static str,
    size: usize,
    clients: usize,
    /// Of each client.
    messages: usize,
}

const CASES: [Case; 2] = [
    Case { name: "32&nbsp;bytes", size: 32, clients: 16, messages: 5_000 },
    Case { name: "60&nbsp;kB", size: 60_000, clients: 16, messages: 500 },
];

/// The servers, and what the table calls them. The first one is the measure.
const SERVERS: [(&str, &str); 4] = [
    ("websocket", "this page's program"),
    ("websocket-128-kib", "the same, with the default read buffer"),
    ("websocket-bare", "tokio-tungstenite, without limits and pings"),
    ("websocket-bare fast", "fastwebsockets, without limits and pings"),
];

/// Prints the table, and writes it if it is to be written.
pub fn measure(rounds: usize, write: bool) {
    // Messages per second, by server, case and round.
    let mut rates = vec![vec![Vec::new(); CASES.len()]; SERVERS.len()];
    for round in 0..rounds {
        for ((name, _), rates) in SERVERS.iter().zip(&mut rates) {
            let mut words = name.split(' ');
            let mut command = Command::new(program(words.next().unwrap()));
            let (child, address) = listen(command.arg("127.0.0.1:0").args(words));
            let _server = Running(child);
            for (case, rates) in CASES.iter().zip(rates) {
                rates.push(rate(address, case));
            }
        }
        eprintln!("round {}", round + 1);
    }

    let mut text = String::from("| server |");
    CASES.iter().for_each(|case| text += &format!(" {} |", case.name));
    text += "\n|---|--:|--:|\n";
    let medians: Vec<Vec<f64>> = rates
        .into_iter()
        .map(|rates| rates.into_iter().map(median).collect())
        .collect();
    for ((_, what), row) in SERVERS.iter().zip(&medians) {
        text += &format!("| {what} |");
        for (rate, measure) in row.iter().zip(&medians[0]) {
            text += &format!(" {rate:.0}/s **{:.2}** |", rate / measure);
        }
        text += "\n";
    }
    print!("{text}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let crates =
            ["hyper", "hyper-util", "tokio", "tokio-tungstenite", "fastwebsockets"];
        let environment = crate::environment(&crates, &[]);
        fs::write(results.join("websocket.md"), text).unwrap();
        fs::write(results.join("websocket-environment.md"), environment).unwrap();
    }
}

/// How many messages a second come back to all clients together.
fn rate(address: SocketAddr, case: &Case) -> f64 {
    let mut clients: Vec<TcpStream> =
        (0..case.clients).map(|_| open(address)).collect();
    let frame = frame(case.size);
    let answer = frame.len() - 4;
    // The first message finds everything cold.
    clients.iter_mut().for_each(|client| echo(client, &frame, answer));
    let start = Instant::now();
    thread::scope(|scope| {
        for client in &mut clients {
            let frame = &frame;
            scope.spawn(move || {
                (0..case.messages).for_each(|_| echo(client, frame, answer));
            });
        }
    });
    (case.clients * case.messages) as f64 / start.elapsed().as_secs_f64()
}

fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

/// A binary frame, masked.
fn frame(size: usize) -> Vec<u8> {
    let mut frame = vec![0x82];
    if size < 126 {
        frame.push(0x80 | size as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend(u16::try_from(size).unwrap().to_be_bytes());
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend((0..size).map(|index| b'.' ^ mask[index % 4]));
    frame
}

fn echo(stream: &mut TcpStream, frame: &[u8], answer: usize) {
    stream.write_all(frame).unwrap();
    let mut buffer = [0; 64 * 1024];
    stream.read_exact(&mut buffer[..answer]).unwrap();
    assert_eq!(buffer[0], 0x82);
    assert_eq!(buffer[answer - 1], b'.');
}
