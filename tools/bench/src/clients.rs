//! How fast clients are: small GETs over connections that stay open, to the same nginx.
//!
//! nginx has one core, and the client, with one thread, the other one. The clients take turns; what counts is the median of the
//! rounds, and its ratio to the pooled client in the same round, with the quartiles. The samples are short and the
//! rounds are many, so that what else a machine does meets all of them.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::files::median;
use crate::server::{built_with_go, is_installed, kill, nginx, program};

/// The clients, and what the table calls them. The first one is the measure.
const CLIENTS: [(&str, &str); 5] = [
    ("pool", "this page's client"),
    ("connection", "[one connection](basic.md) for each"),
    ("reqwest", "reqwest"),
    ("curl", "libcurl, multi interface"),
    ("go", "Go, `net/http`"),
];
/// Requests at a time.
const AT_ONCE: [usize; 2] = [1, 32];
const SECONDS: &str = "0.5";
const SIZE: usize = 1024;

/// Prints the table, and writes it if it is to be written.
pub fn measure(rounds: usize, write: bool) {
    for tool in ["nginx", "go", "taskset"] {
        assert!(is_installed(tool), "the measure needs {tool}: install it");
    }
    let (mut server, address) = nginx(&format!(
        "keepalive_requests 100000000;
    server {{ listen ADDRESS; location / {{ return 200 '{}'; }} }}",
        ".".repeat(SIZE)
    ));
    // With its workers, which are running already.
    let pids = Command::new("pgrep").args(["-P", &server.id().to_string()]).output();
    let pids = String::from_utf8(pids.unwrap().stdout).unwrap();
    for pid in pids.lines().chain([&*server.id().to_string()]) {
        let pinned =
            Command::new("taskset").args(["-pc", "0", pid]).output().unwrap();
        assert!(pinned.status.success(), "{pinned:?}");
    }

    let mut samples = vec![[const { Vec::new() }; AT_ONCE.len()]; CLIENTS.len()];
    for round in 0..rounds {
        for ((name, _), samples) in CLIENTS.iter().zip(&mut samples) {
            for (at_once, samples) in AT_ONCE.iter().zip(samples) {
                samples.push(sample(name, &format!("http://{address}/"), *at_once));
            }
        }
        eprintln!("round {}", round + 1);
    }
    kill("-TERM", &server);
    server.wait().unwrap();

    let mut table = String::from("| client |");
    for at_once in AT_ONCE {
        table += &match at_once {
            1 => " one after the other | ratio |".to_owned(),
            _ => format!(" {at_once} at once | ratio |"),
        };
    }
    table += "\n|---|--:|--:|--:|--:|\n";
    for ((_, what), row) in CLIENTS.iter().zip(&samples) {
        table += &format!("| {what} |");
        for (samples, measure) in row.iter().zip(&samples[0]) {
            // Against the pooled client in the same round.
            let mut ratios: Vec<_> =
                samples.iter().zip(measure).map(|(a, b)| a / b).collect();
            ratios.sort_by(f64::total_cmp);
            table += &format!(
                " {:.0}/s | **{:.2}** ({:.2}–{:.2}) |",
                median(samples.clone()),
                median(ratios.clone()),
                ratios[ratios.len() / 4],
                ratios[ratios.len() * 3 / 4],
            );
        }
        table += "\n";
    }
    print!("{table}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let crates = ["hyper", "hyper-util", "tokio", "reqwest", "curl-sys"];
        let environment = crate::environment(&crates, &["go", "nginx"]);
        fs::write(results.join("clients.md"), table).unwrap();
        fs::write(results.join("clients-environment.md"), environment).unwrap();
    }
}

/// Responses in a second.
fn sample(name: &str, url: &str, at_once: usize) -> f64 {
    let mut command = Command::new("taskset");
    command.args(["-c", "1"]);
    match name {
        "go" => command.arg(built_with_go("client")).env("GOMAXPROCS", "1"),
        _ => command.arg(program("clients")).arg(name),
    };
    let output = command.args([url, &at_once.to_string(), SECONDS]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {output:?}");
    text.trim().parse::<f64>().unwrap() / SECONDS.parse::<f64>().unwrap()
}
