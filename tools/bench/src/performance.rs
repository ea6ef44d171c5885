//! What costs what: hyper beside other servers, and hyper with one thing changed.
//!
//! The server has one core, and the clients, on one thread, have the other, where a load does not say
//! `both`. All take turns, round by round. What counts is the ratio to the measure of the same round: the median
//! of all rounds, with the lowest and the highest.
//!
//! With `--write` the samples are added to results/performance.csv, and the tables are those of all runs
//! in there. Remove that file to begin anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use crate::files::{Running, median};
use crate::plot;
use crate::server::{built_with_go, is_installed, kill, listen, nginx_with, program};

const SECONDS: f64 = 0.4;
/// A sample is taken again when other programs used more than this part of a core meanwhile.
const DISTURBED: f64 = 0.15;

/// The servers, and what the tables call them. The first one is the measure.
const SERVERS: [(&str, &str); 5] = [
    ("hyper", "hyper"),
    ("axum", "axum"),
    ("actix", "actix-web"),
    ("go", "Go, `net/http`"),
    ("nginx", "nginx, files"),
];
const SIZES: [(usize, &str); 3] =
    [(13, "13&nbsp;bytes"), (16 * 1024, "16&nbsp;KiB"), (1 << 20, "1&nbsp;MiB")];
const CONNECTIONS: [usize; 3] = [1, 16, 256];
/// Those of the first table and of the changes.
const MIDDLE: usize = 16;

/// What is done: the words of the load generator, connections, the size of the response.
#[derive(Clone, Copy, PartialEq)]
struct Load(&'static str, usize, usize);

const SMALL: Load = Load("http1", MIDDLE, 13);
const MEDIUM: Load = Load("http1", MIDDLE, 16 * 1024);
const LARGE: Load = Load("http1", MIDDLE, 1 << 20);
const UPLOAD: Load = Load("upload", MIDDLE, 13);
const FRESH: Load = Load("fresh", MIDDLE, 13);
const PIPELINE: Load = Load("pipeline", MIDDLE, 13);
const BOTH: Load = Load("http1 both", 64, 13);
const TLS: &str = "http1 tls";

/// A change: what the table calls it and its load, what it is compared with, and itself.
struct Cost {
    what: &'static str,
    load: &'static str,
    from: (&'static str, Load),
    to: (&'static str, Load),
}

impl Cost {
    /// Of the samples before and after the change, which are taken one after the other.
    fn keys(&self) -> [String; 2] {
        [self.from, self.to].map(|(server, load)| {
            let name = format!("{}, {}: {}", self.what, self.load, key(server, load));
            name.replace("&nbsp;", " ")
        })
    }
}

const fn cost(
    what: &'static str,
    load: &'static str,
    from: (&'static str, Load),
    to: (&'static str, Load),
) -> Cost {
    Cost { what, load, from, to }
}

#[rustfmt::skip]
const COSTS: [Cost; 28] = [
    cost("a debug build", "13&nbsp;bytes", ("hyper", SMALL), ("debug", SMALL)),
    cost("a new connection for each request", "13&nbsp;bytes", ("hyper", SMALL), ("keep-alive-off", FRESH)),
    cost("TLS", "13&nbsp;bytes", ("hyper", SMALL), ("tls", Load(TLS, MIDDLE, 13))),
    cost("TLS", "1&nbsp;MiB", ("hyper", LARGE), ("tls", Load(TLS, MIDDLE, 1 << 20))),
    cost("TLS", "13&nbsp;bytes, new connections", ("hyper", FRESH), ("tls", Load("fresh tls", MIDDLE, 13))),
    cost("HTTP/2, one connection", "13&nbsp;bytes", ("hyper", SMALL), ("http2", Load("http2", MIDDLE, 13))),
    cost("HTTP/2, one connection", "1&nbsp;MiB", ("hyper", LARGE), ("http2", Load("http2", MIDDLE, 1 << 20))),
    cost("HTTP/2, one connection", "uploads of 1&nbsp;MiB", ("hyper", UPLOAD), ("http2", Load("http2 upload", MIDDLE, 13))),
    cost("`adaptive_window`", "the same", ("http2", Load("http2 upload", MIDDLE, 13)), ("adaptive", Load("http2 upload", MIDDLE, 13))),
    cost("16 requests pipelined", "13&nbsp;bytes", ("hyper", SMALL), ("hyper", PIPELINE)),
    cost("`pipeline_flush(true)`", "the same", ("hyper", PIPELINE), ("pipeline-flush", PIPELINE)),
    cost("`spawn_blocking` for each request", "13&nbsp;bytes", ("hyper", SMALL), ("blocking", SMALL)),
    cost("a `tracing` span for each request", "13&nbsp;bytes", ("hyper", SMALL), ("span", SMALL)),
    cost("the span, and a line to `/dev/null`", "13&nbsp;bytes", ("hyper", SMALL), ("line", SMALL)),
    cost("no timer, so no time limit", "13&nbsp;bytes", ("hyper", SMALL), ("no-timer", SMALL)),
    cost("the `auto` builder", "13&nbsp;bytes", ("hyper", SMALL), ("auto", SMALL)),
    cost("`BoxBody` in place of `Full`", "13&nbsp;bytes", ("hyper", SMALL), ("boxed", SMALL)),
    cost("without `TCP_NODELAY`", "13&nbsp;bytes", ("hyper", SMALL), ("nagle", SMALL)),
    cost("the congestion control BBR", "13&nbsp;bytes", ("hyper", SMALL), ("bbr", SMALL)),
    cost("the congestion control BBR", "1&nbsp;MiB", ("hyper", LARGE), ("bbr", LARGE)),
    cost("mimalloc", "13&nbsp;bytes", ("hyper", SMALL), ("mimalloc", SMALL)),
    cost("`writev(false)`", "16&nbsp;KiB", ("hyper", MEDIUM), ("flatten", MEDIUM)),
    cost("`writev(false)`", "1&nbsp;MiB", ("hyper", LARGE), ("flatten", LARGE)),
    cost("`max_buf_size` of 8&nbsp;KiB", "uploads of 1&nbsp;MiB", ("hyper", UPLOAD), ("small-buffer", UPLOAD)),
    cost("`max_buf_size` of 8&nbsp;KiB", "1&nbsp;MiB", ("hyper", LARGE), ("small-buffer", LARGE)),
    cost("`current_thread` runtime", "13&nbsp;bytes", ("hyper", SMALL), ("current-thread", SMALL)),
    cost("`current_thread` runtime", "13&nbsp;bytes, both cores", ("hyper", BOTH), ("current-thread", BOTH)),
    cost("one such runtime for each core", "13&nbsp;bytes, both cores", ("hyper", BOTH), ("thread-per-core", BOTH)),
];

/// Idle connections: the server, what each has done, and what the table calls it.
const IDLE: [(&str, &str, &str); 8] = [
    ("hyper", "http1", "HTTP/1"),
    ("hyper", "upload", "HTTP/1, after an upload of 1&nbsp;MiB"),
    (
        "small-buffer",
        "upload",
        "HTTP/1, after the upload, `max_buf_size` of 8&nbsp;KiB",
    ),
    ("http2", "http2", "HTTP/2"),
    ("tls", "http1 tls", "HTTP/1 over TLS"),
    ("tls-http2", "http2 tls", "HTTP/2 over TLS"),
    ("actix", "http1", "HTTP/1, actix-web"),
    ("go", "http1", "HTTP/1, Go"),
];
const IDLE_CONNECTIONS: usize = 2000;

/// The demonstration: requests in a second, and how long the server stands still in each.
const RATE: &str = "1000";
const STALL: Duration = Duration::from_millis(100);
const STALLS: usize = 4;

/// The values of a sample: responses in a second, the median and the 99th percentile of their times, the
/// same from when a request was due (in µs), the CPU time of the server for a response (in µs), the part
/// of a core that the server used, and the part of its CPU time in the kernel.
type Values = [f64; 8];
const RATE_OF: usize = 0;
const CPU: usize = 5;
const BUSY: usize = 6;
const KERNEL: usize = 7;

/// By what was measured, then by run and round.
type Samples = BTreeMap<String, BTreeMap<(String, usize), Values>>;

fn key(server: &str, Load(words, connections, size): Load) -> String {
    format!("{server},{words},{connections},{size}")
}

/// Where the files are that nginx sends.
fn folder() -> PathBuf {
    env::temp_dir().join(format!("bench-performance-{}", process::id()))
}

/// Starts a server on core 0, or on both.
fn start(name: &str, both: bool) -> (Running, SocketAddr) {
    if name == "nginx" {
        // Where this program runs, so does nginx.
        let (child, address) = nginx_with(
            1,
            &format!(
                "sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=10;
    server {{ listen ADDRESS; root {}; }}",
                folder().display()
            ),
        );
        return (Running(child), address);
    }
    let debug = program("bench").parent().unwrap().with_file_name("debug");
    let (path, change) = match name {
        "axum" | "actix" => (program(&format!("performance-{name}")), ""),
        "mimalloc" => (program("performance-mimalloc"), ""),
        "go" => (built_with_go("performance"), ""),
        "debug" => (debug.join("performance"), ""),
        "hyper" => (program("performance"), ""),
        change => (program("performance"), change),
    };
    assert!(path.exists(), "{} is missing: run `cargo build --bins`", path.display());
    let mut command = Command::new("taskset");
    command.args(["-c", if both { "0,1" } else { "0" }]).arg(path);
    let (child, address) = listen(command.arg("127.0.0.1:0").arg(change));
    (Running(child), address)
}

/// The load generator, on core 1, or on both.
fn load(
    mode: &str,
    address: SocketAddr,
    Load(words, connections, size): Load,
) -> Command {
    let mut command = Command::new("taskset");
    let both = words.contains("both");
    command.args(["-c", if both { "0,1" } else { "1" }]).arg(program("bench"));
    command.args([mode, &address.to_string(), words, &connections.to_string()]);
    command.arg(format!("/{size}"));
    command
}

/// What the load generator prints: all responses, its own CPU time in seconds, and the values.
fn values(command: &mut Command) -> (f64, f64, [f64; 5]) {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}");
    let values: Vec<f64> =
        text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    (values[0], values[1], values[2..].try_into().unwrap())
}

fn sample(server: &str, it: Load) -> Values {
    for _ in 0..100 {
        let (running, address) = start(server, it.0.contains("both"));
        let (begin, before, machine) =
            (Instant::now(), cpu(&running.0), machine_cpu());
        let mut command = load("load", address, it);
        let (all, clients, values) = values(command.arg(SECONDS.to_string()));
        let seconds = begin.elapsed().as_secs_f64();
        let after = cpu(&running.0);
        let [used, program, kernel] = [0, 1, 2].map(|it| after[it] - before[it]);
        let others = machine_cpu() - machine - used - clients;
        if others < DISTURBED * seconds {
            let kernel = kernel / (program + kernel);
            let rest = [used / all * 1e6, used / seconds, kernel];
            return [&values[..], &rest].concat().try_into().unwrap();
        }
        eprint!("{others:.2} ");
    }
    panic!("the machine is too busy to measure")
}

/// The CPU time of all processes, in seconds.
fn machine_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|ticks| ticks.parse().unwrap())
        .collect();
    // Without the time that the processors were idle, the fourth and the fifth.
    (ticks[..8].iter().sum::<f64>() - ticks[3] - ticks[4]) / 100.0
}

/// The CPU time of a process and its children, in seconds; and its ticks in the program and in the kernel.
fn cpu(child: &Child) -> [f64; 3] {
    let pid = child.id().to_string();
    let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
    let children = String::from_utf8(children).unwrap();
    let mut times = [0.0; 3];
    let number = |word: &str| word.parse::<f64>().unwrap();
    for pid in children.lines().chain([&*pid]) {
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let file = task.unwrap().path().join("schedstat");
            let stat = fs::read_to_string(file).unwrap();
            times[0] += number(stat.split(' ').next().unwrap()) / 1e9;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // Behind the name, which may have spaces.
        let words: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').collect();
        times[1] += number(words[12]);
        times[2] += number(words[13]);
    }
    times
}

/// The memory that is resident, in KiB.
fn memory(child: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// KiB for each connection.
fn idle(server: &str, words: &'static str) -> f64 {
    let (running, address) = start(server, false);
    let resting = |connections| {
        let mut command = load("idle", address, Load(words, connections, 13));
        let mut clients = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(clients.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "idle\n");
        thread::sleep(Duration::from_millis(100));
        let memory = memory(&running.0);
        clients.kill().unwrap();
        clients.wait().unwrap();
        memory
    };
    // What the first connection needs is not for each.
    let before = resting(1);
    (resting(IDLE_CONNECTIONS) - before) / (IDLE_CONNECTIONS - 1) as f64
}

/// Requests as fast as one client can, or at a rate, to a server that is stopped now and then.
fn stalled(rate: Option<&str>) -> Values {
    let (running, address) = start("hyper", false);
    let mut command = load("load", address, Load("http1", 1, 13));
    command.arg(STALLS.to_string()).args(rate);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            for _ in 0..STALLS {
                thread::sleep(Duration::from_millis(400));
                kill("-STOP", &running.0);
                thread::sleep(STALL);
                kill("-CONT", &running.0);
                thread::sleep(
                    Duration::from_secs(1) - STALL - Duration::from_millis(400),
                );
            }
        });
        let (_, _, values) = values(&mut command);
        [&values[..], &[0.0; 3]].concat().try_into().unwrap()
    })
}

/// Prints the tables, and writes them if they are to be written.
pub fn measure(rounds: usize, write: bool) {
    for tool in ["nginx", "go", "taskset", "pgrep"] {
        assert!(is_installed(tool), "the measure needs {tool}: install it");
    }
    fs::create_dir_all(folder()).unwrap();
    for (size, _) in SIZES {
        let content =
            if size == 13 { b"Hello, World!".to_vec() } else { vec![b'.'; size] };
        fs::write(folder().join(size.to_string()), content).unwrap();
    }
    let crates =
        ["hyper", "hyper-util", "h2", "tokio", "tokio-rustls", "axum", "actix-web"];
    let environment = crate::environment(&crates, &["go", "nginx"]);
    let control = "/proc/sys/net/ipv4/tcp_congestion_control";
    let control = fs::read_to_string(control).unwrap();
    let environment = environment
        .replace("loopback;", &format!("loopback, TCP {};", control.trim()));
    // What it starts runs on this core, if it is not told otherwise.
    let own = process::id().to_string();
    let pinned = Command::new("taskset").args(["-pc", "0", &own]).output();
    assert!(pinned.unwrap().status.success());

    let output = Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M"]).output();
    let run = String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned();
    let mut samples = Samples::new();
    let mut took = |key: String, round, values| {
        samples.entry(key).or_default().insert((run.clone(), round), values);
    };
    for round in 0..rounds {
        for (size, _) in SIZES {
            for connections in CONNECTIONS {
                let load = Load("http1", connections, size);
                for (server, _) in SERVERS {
                    took(key(server, load), round, sample(server, load));
                }
            }
        }
        for cost in &COSTS {
            let [from, to] = cost.keys();
            took(from, round, sample(cost.from.0, cost.from.1));
            took(to, round, sample(cost.to.0, cost.to.1));
        }
        // These differ little from round to round.
        if round == 0 {
            for (server, words, _) in &IDLE {
                let values = [idle(server, words), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
                took(format!("idle {server},{words}"), round, values);
            }
            took("stalled".to_owned(), round, stalled(None));
            took("stalled at a rate".to_owned(), round, stalled(Some(RATE)));
        }
        eprintln!("round {}", round + 1);
    }
    fs::remove_dir_all(folder()).unwrap();

    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    if write {
        let file = results.join("performance.csv");
        let mut text = fs::read_to_string(&file).unwrap_or_default();
        for (key, rounds) in &samples {
            for ((run, round), values) in rounds {
                let values = values.map(|value| format!("{value:.3}")).join(",");
                writeln!(text, "{run};{round};{key};{values}").unwrap();
            }
        }
        samples = text.lines().fold(Samples::new(), |mut samples, line| {
            let cells: Vec<_> = line.split(';').collect();
            let values: Vec<f64> =
                cells[3].split(',').map(|value| value.parse().unwrap()).collect();
            let when = (cells[0].to_owned(), cells[1].parse().unwrap());
            let rounds = samples.entry(cells[2].to_owned()).or_default();
            rounds.insert(when, values.try_into().unwrap());
            samples
        });
        fs::write(file, text).unwrap();
    }
    let tables = tables(&samples);
    print!("{tables}");
    if write {
        fs::write(results.join("performance.md"), tables).unwrap();
        fs::write(results.join("performance.svg"), svg(&samples)).unwrap();
        fs::write(results.join("performance-environment.md"), environment).unwrap();
    }
}

/// The median of a value in all rounds.
fn middle(samples: &Samples, key: &str, value: usize) -> f64 {
    median(samples[key].values().map(|values| values[value]).collect())
}

/// The ratios of a value in each round, by run.
fn ratios(
    samples: &Samples,
    from: &str,
    to: &str,
    value: usize,
) -> Vec<(String, f64)> {
    let from = &samples[from];
    let to = samples[to].iter();
    to.map(|(when, values)| (when.0.clone(), values[value] / from[when][value]))
        .collect()
}

/// The median, the lowest and the highest.
fn spread(ratios: Vec<(String, f64)>) -> [f64; 3] {
    let mut ratios: Vec<f64> = ratios.into_iter().map(|(_, ratio)| ratio).collect();
    ratios.sort_by(f64::total_cmp);
    [median(ratios.clone()), ratios[0], ratios[ratios.len() - 1]]
}

/// Two digits that count.
fn short(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn cell(ratios: Vec<(String, f64)>) -> String {
    let [median, lowest, highest] = spread(ratios).map(short);
    format!("**{median}** ({lowest}–{highest})")
}

fn time(micros: f64) -> String {
    if micros < 1000.0 {
        format!("{micros:.0}&nbsp;µs")
    } else {
        format!("{:.1}&nbsp;ms", micros / 1000.0)
    }
}

/// The tables, each below a heading for the tests and between anchors for the page.
fn tables(samples: &Samples) -> String {
    let parts = [
        ("servers", servers(samples)),
        ("times", times(samples)),
        ("costs", costs(samples)),
        ("memory", memories(samples)),
        ("omission", omission(samples)),
        ("runs", runs(samples)),
    ];
    let parts = parts.map(|(name, text)| {
        format!("## {name}\n\n<!-- ANCHOR: {name} -->\n{text}<!-- ANCHOR_END: {name} -->\n")
    });
    parts.join("\n")
}

fn servers(samples: &Samples) -> String {
    let mut text = format!(
        "{MIDDLE} connections. Responses per second, and **their ratio to hyper's**:\n\n| server |"
    );
    for (_, what) in SIZES {
        write!(text, " {what} |").unwrap();
    }
    text += " CPU | in the kernel | busy |\n|---|--:|--:|--:|--:|--:|--:|\n";
    for (server, what) in SERVERS {
        write!(text, "| {what} |").unwrap();
        for (size, _) in SIZES {
            let load = Load("http1", MIDDLE, size);
            let rate = middle(samples, &key(server, load), RATE_OF);
            let ratios =
                ratios(samples, &key("hyper", load), &key(server, load), RATE_OF);
            write!(text, " {rate:.0}/s **{:.2}** |", spread(ratios)[0]).unwrap();
        }
        let cpu = middle(samples, &key(server, SMALL), CPU);
        let [kernel, busy] = [KERNEL, BUSY]
            .map(|value| 100.0 * middle(samples, &key(server, SMALL), value));
        writeln!(text, " {cpu:.1}&nbsp;µs | {kernel:.0}&nbsp;% | {busy:.0}&nbsp;% |")
            .unwrap();
    }
    text
}

fn times(samples: &Samples) -> String {
    let mut text = String::from(
        "The time of a response of 13 bytes, median and 99th percentile:\n\n| server |",
    );
    for connections in CONNECTIONS {
        let plural = if connections == 1 { "" } else { "s" };
        write!(text, " {connections} connection{plural} |").unwrap();
    }
    text += "\n|---|--:|--:|--:|\n";
    for (server, what) in SERVERS {
        write!(text, "| {what} |").unwrap();
        for connections in CONNECTIONS {
            let key = key(server, Load("http1", connections, 13));
            let [half, p99] = [1, 2].map(|value| time(middle(samples, &key, value)));
            write!(text, " {half} / {p99} |").unwrap();
        }
        text += "\n";
    }
    text
}

fn costs(samples: &Samples) -> String {
    let mut text = String::from(
        "| change | load | CPU for a request | requests per second |\n|---|---|--:|--:|\n",
    );
    for cost in &COSTS {
        let (Cost { what, load, .. }, [from, to]) = (cost, cost.keys());
        let cpu = cell(ratios(samples, &from, &to, CPU));
        let rate = cell(ratios(samples, &from, &to, RATE_OF));
        writeln!(text, "| {what} | {load} | {cpu} | {rate} |").unwrap();
    }
    text
}

fn memories(samples: &Samples) -> String {
    let mut text =
        format!("{IDLE_CONNECTIONS} connections, each after one request:\n\n");
    text += "| idle connection | memory |\n|---|--:|\n";
    for (server, words, what) in IDLE {
        let key = format!("idle {server},{words}");
        writeln!(text, "| {what} | {:.0}&nbsp;KiB |", middle(samples, &key, 0))
            .unwrap();
    }
    text
}

fn omission(samples: &Samples) -> String {
    let mut text = format!(
        "The server stands still for {} ms in each second:\n\n| load | time counts from | median | 99th percentile |\n|---|---|--:|--:|\n",
        STALL.as_millis()
    );
    for (key, load, from, value) in [
        ("stalled", "each request after the last response", "sending", 1),
        ("stalled at a rate", "a request each millisecond", "sending", 1),
        ("stalled at a rate", "the same requests", "when it was due", 3),
    ] {
        let [half, p99] =
            [value, value + 1].map(|value| time(middle(samples, key, value)));
        writeln!(text, "| {load} | {from} | {half} | {p99} |").unwrap();
    }
    text
}

/// Each ratio of the tables and of the plot: its name, and the rounds.
fn all_ratios(samples: &Samples) -> Vec<(String, Vec<(String, f64)>)> {
    let mut all = Vec::new();
    for (server, what) in &SERVERS[1..] {
        for (size, size_name) in SIZES {
            for connections in CONNECTIONS {
                let load = Load("http1", connections, size);
                let (from, to) = (key("hyper", load), key(server, load));
                let name = format!("{what}, {connections} × {size_name}");
                all.push((name, ratios(samples, &from, &to, RATE_OF)));
            }
        }
    }
    for cost in &COSTS {
        let (Cost { what, load, .. }, [from, to]) = (cost, cost.keys());
        for (value, name) in [(CPU, "CPU"), (RATE_OF, "requests")] {
            let name = format!("{name}, {what}, {load}");
            all.push((name, ratios(samples, &from, &to, value)));
        }
    }
    all
}

/// How far the runs agree.
fn runs(samples: &Samples) -> String {
    let all = all_ratios(samples);
    let mut apart = Vec::new();
    let mut runs = 1;
    for (name, ratios) in &all {
        let mut by_run: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (run, ratio) in ratios {
            by_run.entry(run).or_default().push(*ratio);
        }
        runs = by_run.len();
        let mut medians: Vec<f64> = by_run.into_values().map(median).collect();
        medians.sort_by(f64::total_cmp);
        apart.push((medians[runs - 1] / medians[0] - 1.0, name));
    }
    apart.sort_by(|a, b| b.0.total_cmp(&a.0));
    let more = apart.iter().filter(|(apart, _)| *apart > 0.15).count();
    let days: BTreeSet<&str> = all[0].1.iter().map(|(run, _)| &run[..10]).collect();
    let number = |count: usize, one: &str, more: &str| {
        format!("{count} {}", if count == 1 { one } else { more })
    };
    let all_runs = format!(
        "{} on {}, {} in all.",
        number(runs, "run", "runs"),
        number(days.len(), "day", "days"),
        number(all[0].1.len(), "round", "rounds"),
    );
    if runs == 1 {
        return all_runs + "\n";
    }
    format!(
        "{all_runs} The medians of the runs differ by more than 15&nbsp;% in {more} of {} ratios, at most by \
        {:.0}&nbsp;% ({}).\n",
        apart.len(),
        100.0 * apart[0].0,
        apart[0].1
    )
}

/// The plot: a panel for each size, a row for each server, a dot for each number of connections.
fn svg(samples: &Samples) -> String {
    let panels = SIZES.map(|(size, size_name)| {
        let rows = SERVERS[1..].iter().map(|(server, what)| {
            let dots = CONNECTIONS.map(|connections| {
                let load = Load("http1", connections, size);
                let (from, to) = (key("hyper", load), key(server, load));
                spread(ratios(samples, &from, &to, RATE_OF))
            });
            (what.split(',').next().unwrap().to_owned(), dots.to_vec())
        });
        (size_name.replace("&nbsp;", " "), rows.collect::<Vec<plot::Row>>())
    });
    let mut description = String::from(
        "A panel for each size of the response, a row for each server, and in it a dot for 1, 16 and 256 connections: the median ratio, with a line from the lowest to the highest.",
    );
    for (size, rows) in &panels {
        let rows = rows.iter().map(|(what, dots)| {
            let medians = dots.iter().map(|[median, ..]| format!(" {median:.2}"));
            what.clone() + &medians.collect::<String>()
        });
        let rows: Vec<_> = rows.collect();
        write!(description, " {size}: {}.", rows.join(", ")).unwrap();
    }
    let legend = CONNECTIONS.map(|connections| match connections {
        1 => "1 connection".to_owned(),
        more => more.to_string(),
    });
    let title = "Requests per second, in ratio to hyper";
    plot::ratios(&panels, &legend, title, &description)
}
