//! Counts the requests that servers lose when they are told to stop.
//!
//! Each server is started as a child process and put under load: clients that keep their
//! connection and pause up to 5 ms between requests, clients that connect for each request, and
//! clients whose requests take two seconds. After a second it gets SIGTERM. A request is *lost*
//! when its bytes were written and no whole response came. No client repeats a request.
//!
//!     cargo run --release --manifest-path tools/bench/Cargo.toml -- [--runs N] [--storm] [NAME...]
//!
//! A first argument `clients`, `features`, `files`, `performance`, `proxy`, `sockets`, `tls` or `websocket` measures something else, see the
//! module of that name:
//!
//!     cargo run --release --manifest-path tools/bench/Cargo.toml -- files [--runs N]
//!
//! With `--write` the table and the plot go to tools/bench/results, from where the book takes them.
//! `--storm` has 200 clients that connect for each request, not 8.

mod client;
mod clients;
mod features;
mod files;
mod load;
mod performance;
mod plot;
mod proxy;
mod server;
mod smuggling;
mod sockets;
mod tls;
mod websocket;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use client::{Event, Kind, Outcome};
use server::{Server, Start};

/// The load before the signal.
const BEFORE: Duration = Duration::from_secs(1);
/// How long after the signal the clients go on where a second instance serves.
const AFTER: Duration = Duration::from_millis(4500);

/// The clients of a run: how many of each kind.
#[derive(Clone, Copy)]
struct Load {
    keep_alive: usize,
    fresh: usize,
    slow: usize,
}

const LOAD: Load = Load { keep_alive: 64, fresh: 8, slow: 4 };
const STORM: Load = Load { keep_alive: 64, fresh: 200, slow: 4 };

/// One row of the table.
struct Row {
    name: &'static str,
    what: &'static str,
    start: Start,
    /// Stops in each round. What is to lose nothing is stopped more often.
    stops: usize,
    /// Whether the plot has a panel for it.
    plotted: bool,
}

#[rustfmt::skip]
const ROWS: [Row; 17] = [
    Row { name: "kill", what: "ends at the signal", start: Start::Alone, stops: 1, plotted: true },
    Row { name: "drop-listener", what: "stops accepting, ends after a second", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "official", what: "hyper's official guide, with SIGTERM", start: Start::Alone, stops: 1, plotted: true },
    Row { name: "graceful-shutdown", what: "Gracefully Shutdown a Server", start: Start::Alone, stops: 1, plotted: true },
    Row { name: "axum", what: "axum", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "actix", what: "actix-web", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "go", what: "Go, `Server.Shutdown`", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "nginx", what: "nginx, SIGQUIT", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "zero-downtime", what: "this page's program", start: Start::Alone, stops: 10, plotted: true },
    Row { name: "without-header", what: "without `connection: close`", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "without-lame-duck", what: "without the lame duck", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "without-backlog", what: "without accepting those under way", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "without-no-handshakes", what: "without the socket filter", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "without-linger", what: "without the linger", start: Start::Alone, stops: 1, plotted: false },
    Row { name: "official", what: "the official guide, port shared", start: Start::SharedPort, stops: 2, plotted: false },
    Row { name: "zero-downtime", what: "this page's program, port shared", start: Start::SharedPort, stops: 2, plotted: false },
    Row { name: "zero-downtime", what: "this page's program, socket inherited", start: Start::Inherited, stops: 2, plotted: true },
];

/// What the runs of a row have come to.
#[derive(Default)]
struct Sum {
    runs: usize,
    runs_with_loss: usize,
    counts: BTreeMap<Outcome, usize>,
    exit: Duration,
    events: Vec<Event>,
}

impl Sum {
    fn count(&self, outcome: Outcome) -> usize {
        self.counts.get(&outcome).copied().unwrap_or(0)
    }
}

fn main() {
    let mut runs = 10;
    let mut load = LOAD;
    let mut write = false;
    let mut other: Option<fn(usize, bool)> = None;
    let mut names = Vec::new();
    // The load generator of `performance` is a process of its own.
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == "load" => return load::run(rest),
        Some((word, rest)) if word == "idle" => return load::idle(rest),
        _ => {}
    }
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--runs" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                runs = number.unwrap_or_else(|| usage("--runs takes a number"));
            }
            "--storm" => load = STORM,
            "--write" => write = true,
            "clients" => other = Some(clients::measure),
            "features" => other = Some(features::measure),
            "performance" => other = Some(performance::measure),
            "files" => other = Some(files::measure),
            "proxy" => other = Some(proxy::measure),
            "sockets" => other = Some(sockets::measure),
            "tls" => other = Some(tls::measure),
            "websocket" => other = Some(websocket::measure),
            name if ROWS.iter().any(|row| row.name == name) => names.push(argument),
            word => usage(&format!("there is no server and no option `{word}`")),
        }
    }
    if let Some(measure) = other {
        return measure(runs, write);
    }
    // The storm is about the last moments of one server.
    let rows = ROWS
        .iter()
        .filter(|row| load.fresh == LOAD.fresh || row.start == Start::Alone);
    let rows =
        rows.filter(|row| names.is_empty() || names.iter().any(|n| n == row.name));
    let rows: Vec<&Row> = rows.filter(|row| server::is_installed(row.name)).collect();

    // Round by round, so that what disturbs the machine disturbs all rows alike.
    let mut sums: Vec<Sum> = rows.iter().map(|_| Sum::default()).collect();
    for round in 0..runs {
        for (row, sum) in rows.iter().zip(&mut sums) {
            for _ in 0..row.stops {
                run(row, load, sum);
            }
            let lost =
                sum.events.iter().filter(|event| event.outcome.is_lost()).count();
            eprintln!(
                "round {}: {} ({:?}): {lost} lost so far",
                round + 1,
                row.name,
                row.start
            );
        }
    }
    let table = table(&rows, &sums, load);
    print!("{table}");
    if write {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&results).unwrap();
        fs::write(results.join("load.md"), table).unwrap();
        let crates = ["hyper", "hyper-util", "tokio", "axum", "actix-web"];
        let environment = environment(&crates, &["go", "nginx"]);
        fs::write(results.join("environment.md"), environment).unwrap();
        let plotted = rows.iter().zip(&sums).filter(|(row, _)| row.plotted);
        let panels: Vec<_> = plotted.map(|(row, sum)| (row.what, sum)).collect();
        fs::write(results.join("load.svg"), plot::svg(&panels)).unwrap();
    }
}

fn usage(problem: &str) -> ! {
    let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    eprintln!("{problem}\nusage: bench [--runs N] [--storm] [--write] [NAME...]");
    eprintln!("names: {}", names.join(" "));
    std::process::exit(2)
}

/// One stop of one server under load.
fn run(row: &Row, load: Load, sum: &mut Sum) {
    let mut server = Server::start(row.name, row.start);
    let address = server.address;
    let begin = Instant::now();
    let signal = begin + BEFORE;
    let hand_over = row.start != Start::Alone;
    // Alone, a server that refuses connections is gone. With a second instance nobody may be refused.
    let end = hand_over.then_some(signal + AFTER);
    let (exit, events) = thread::scope(|scope| {
        let mut clients = Vec::new();
        let mut add = |count: usize, kind: Kind| {
            for _ in 0..count {
                clients.push(
                    scope.spawn(move || client::run(address, kind, signal, end)),
                );
            }
        };
        add(load.keep_alive, Kind::KeepAlive);
        add(load.fresh, Kind::Fresh);
        add(load.slow, Kind::Slow);
        if hand_over {
            thread::sleep(BEFORE - Duration::from_millis(300));
            server.start_successor();
        }
        thread::sleep(signal.saturating_duration_since(Instant::now()));
        let exit = server.stop();
        let events: Vec<Event> =
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (exit, events)
    });
    drop(server);
    sum.runs += 1;
    sum.exit += exit;
    sum.runs_with_loss +=
        usize::from(events.iter().any(|event| event.outcome.is_lost()));
    for event in &events {
        *sum.counts.entry(event.outcome).or_default() += 1;
    }
    sum.events.extend(events);
}

fn table(rows: &[&Row], sums: &[Sum], load: Load) -> String {
    let mut text = format!(
        "{} clients that keep their connection, {} that connect for each request, {} slow ones.\n\n",
        load.keep_alive, load.fresh, load.slow
    );
    text += "| server | lost | reused / closed / reset | stops | answered | refused | exit |\n";
    text += "|---|--:|:-:|--:|--:|--:|--:|\n";
    for (row, sum) in rows.iter().zip(sums) {
        let (reused, closed, reset) = (
            sum.count(Outcome::LostReused),
            sum.count(Outcome::LostFreshClosed),
            sum.count(Outcome::LostFreshReset),
        );
        text += &format!(
            "| {} | **{}**&nbsp;({}) | {reused}&nbsp;/&nbsp;{closed}&nbsp;/&nbsp;{reset} | {} | {} | {} | {:.1}&nbsp;s |\n",
            row.what,
            reused + closed + reset,
            sum.runs_with_loss,
            sum.runs,
            sum.count(Outcome::Answered),
            sum.count(Outcome::Refused),
            sum.exit.as_secs_f64() / sum.runs as f64,
        );
    }
    text
}

/// When, on what, with which versions.
fn environment(crates: &[&str], peers: &[&str]) -> String {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(
            String::from_utf8_lossy(&text)
                .lines()
                .next()
                .unwrap_or("")
                .trim()
                .to_owned(),
        )
    };
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"))
        .unwrap();
    let locked = |name: &str| {
        let mut lines =
            lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
        let version = lines.nth(1).unwrap();
        format!(
            "{name} {}",
            version.trim_start_matches("version = ").trim_matches('"')
        )
    };
    let mut parts = vec![
        output("date", &["--utc", "+%Y-%m-%d"]).unwrap_or_default(),
        format!(
            "Linux, {} cores, loopback",
            thread::available_parallelism().unwrap()
        ),
    ];
    parts.extend(crates.iter().map(|name| locked(name)));
    for peer in peers {
        parts.extend(match *peer {
            "go" => {
                output("go", &["version"]).map(|v| v.replace("go version go", "Go "))
            }
            _ => output(peer, &["-v"])
                .map(|v| v.replace("nginx version: nginx/", "nginx ")),
        });
    }
    parts.join("; ") + ".\n"
}
