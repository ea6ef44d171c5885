//! That the files in snippets/deploy/, the times of the program zero-downtime and the page about
//! deploying agree, and how a shell treats the signal. What the program does in these times is tested in
//! zero_downtime.rs.

use std::collections::HashMap;
use std::fs;
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use harness::{Connection, LIMIT, Program, page, root, spawn, the_book};
use regex::Regex;
use yaml_rust2::{Yaml, YamlLoader};

fn read(file: &str) -> String {
    let text = fs::read_to_string(root().join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A constant of the program zero-downtime, in seconds.
pub fn constant(name: &str) -> u64 {
    let value = Regex::new(&format!(
        r"const {name}: Duration = Duration::from_secs\((\d+)\)"
    ));
    let program = read("snippets/server/zero_downtime.rs");
    value.unwrap().captures(&program).expect(name)[1].parse().unwrap()
}

/// From the signal to the end, where no task blocks.
fn stop() -> u64 {
    constant("LAME_DUCK") + without_listener()
}

/// From the close of the listener to the end.
fn without_listener() -> u64 {
    constant("LINGER") + constant("DRAIN_DEADLINE")
}

fn yaml(file: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&read(file)).unwrap()
}

fn seconds(value: &Yaml) -> u64 {
    value
        .as_i64()
        .unwrap_or_else(|| panic!("no number: {value:?}"))
        .try_into()
        .unwrap()
}

/// What the pod of the Deployment says.
fn pod() -> Yaml {
    yaml("snippets/deploy/kubernetes.yaml")[0]["spec"]["template"]["spec"].clone()
}

/// The keys of a unit: no unit here has the same key twice.
fn unit(file: &str) -> HashMap<String, String> {
    let text = read(file);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The number of seconds in `stop_grace_period: 20s`.
fn compose_period() -> u64 {
    let compose =
        &yaml("snippets/deploy/compose.yaml")[0]["services"]["zero-downtime"];
    let period = compose["stop_grace_period"].as_str().unwrap();
    period.strip_suffix('s').expect("in seconds").parse().unwrap()
}

#[test]
fn the_times_of_the_program_are_those_of_the_page() {
    let page = page("server/deploying");
    assert_eq!(page.number("LAME_DUCK, {} s:"), constant("LAME_DUCK"));
    assert_eq!(page.number("LINGER, {} s:"), constant("LINGER"));
    assert_eq!(page.number("DRAIN_DEADLINE, {} s:"), constant("DRAIN_DEADLINE"));
    assert_eq!(page.number("the three parts take {} s at most"), stop());
    assert_eq!(page.number("shorter times than the {} s of this one"), stop());
}

#[test]
fn the_program_ends_before_it_is_killed() {
    let page = page("server/deploying");
    let service = unit("snippets/deploy/zero-downtime.service");
    let compose = compose_period();
    for (name, after, said) in [
        (
            "Kubernetes",
            seconds(&pod()["terminationGracePeriodSeconds"]),
            page.number("| terminationGracePeriodSeconds | {} s"),
        ),
        (
            "systemd",
            service["TimeoutStopSec"].parse().unwrap(),
            page.number("| TimeoutStopSec | {} s"),
        ),
        ("Compose", compose, page.number("| stop_grace_period | {} s")),
    ] {
        assert_eq!(after, said, "{name} in the table of the page");
        // Machines can be slow, and the thread that ends the process waits half a second more.
        assert!(after >= stop() + 5, "{name} kills after {after} s, too early");
    }
    page.says("TimeoutStopSec=20");
    page.says("docker run --stop-timeout 20");
    assert_eq!((service["TimeoutStopSec"].as_str(), compose), ("20", 20));
    let docker = page.number("| docker stop, default | nothing | {} s: too early");
    assert!(docker < stop(), "the default of Docker is long enough now");
}

#[test]
fn the_probes_fit() {
    let page = page("server/deploying");
    let container = &pod()["containers"][0];
    let probe = |name: &str| {
        let probe = &container[name];
        (seconds(&probe["periodSeconds"]), seconds(&probe["failureThreshold"]))
    };
    let (period, failures) = probe("readinessProbe");
    let [noticed, lame_duck] =
        page.numbers("failureThreshold, here {} s, and the lame duck lasts {} s");
    assert_eq!((noticed, lame_duck), (period * failures, constant("LAME_DUCK")));
    assert!(noticed < lame_duck, "the probe must fail before the lame duck ends");

    let (period, failures) = probe("livenessProbe");
    assert_eq!(
        page.numbers("allows {} failures, one every {} s"),
        [failures, period]
    );
    let closed = page.number("every probe fails, for {} s at most");
    // And half a second until the watchdog.
    assert_eq!(closed, without_listener() + 1);
    let restarted = page.number("They take {} s or more");
    assert_eq!(restarted, (failures - 1) * period);
    assert!(
        restarted > closed,
        "the kubelet would restart a server that is stopping"
    );
    // What zero_downtime.rs tests: /ready fails at a stop, and / does not.
    assert_eq!(
        container["readinessProbe"]["httpGet"]["path"].as_str(),
        Some("/ready")
    );
    assert_eq!(container["livenessProbe"]["httpGet"]["path"].as_str(), Some("/"));
}

#[test]
fn the_files_name_the_same_program_port_and_signal() {
    let service = unit("snippets/deploy/zero-downtime.service");
    assert_eq!(service["KillSignal"], "SIGTERM");
    assert_eq!(service["Requires"], "zero-downtime.socket");
    let program = &service["ExecStart"];
    let address = &unit("snippets/deploy/zero-downtime.socket")["ListenStream"];
    let (_, port) = address.rsplit_once(':').unwrap();
    let dockerfile = "snippets/deploy/Dockerfile";
    for line in [format!("ENTRYPOINT [{program:?}]"), format!("CMD [{address:?}]")] {
        assert!(read(dockerfile).lines().any(|there| there == line), "no {line}");
    }
    let compose =
        &yaml("snippets/deploy/compose.yaml")[0]["services"]["zero-downtime"];
    assert_eq!(compose["ports"][0].as_str().unwrap(), format!("{port}:{port}"));
    assert_eq!(compose["build"]["dockerfile"].as_str(), Some(dockerfile));

    let [deployment, service] = &yaml("snippets/deploy/kubernetes.yaml")[..] else {
        panic!("kubernetes.yaml is a Deployment and a Service");
    };
    let container = &pod()["containers"][0];
    assert_eq!(container["args"][0].as_str(), Some(&**address));
    let container_port = &container["ports"][0];
    assert_eq!(container_port["containerPort"].as_i64().unwrap().to_string(), port);
    let name = &container_port["name"];
    assert_eq!(&container["readinessProbe"]["httpGet"]["port"], name);
    assert_eq!(&container["livenessProbe"]["httpGet"]["port"], name);
    assert_eq!(&service["spec"]["ports"][0]["targetPort"], name);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&service["spec"]["selector"], labels);
}

#[test]
fn the_picture_is_drawn_to_scale() {
    let shown =
        the_book().pages.iter().any(|page| page.source.contains("stop-times.svg"));
    assert!(shown, "no page shows the picture");
    let picture = read("src/pictures/stop-times.svg");
    let find = |pattern: &str| -> Vec<Vec<String>> {
        let texts = |found: regex::Captures| {
            found
                .iter()
                .skip(1)
                .flatten()
                .map(|text| text.as_str().to_owned())
                .collect()
        };
        Regex::new(pattern).unwrap().captures_iter(&picture).map(texts).collect()
    };
    // 10 units are a second.
    let [lame_duck, linger, drain] =
        ["LAME_DUCK", "LINGER", "DRAIN_DEADLINE"].map(constant);
    let bars = [(0, lame_duck), (lame_duck, linger), (lame_duck + linger, drain)];
    let bars = bars.map(|(from, long)| vec![10 * from, 10 * long].into_iter());
    let bars = bars.map(|bar| bar.map(|units| units.to_string()).collect::<Vec<_>>());
    assert_eq!(find(r#"<rect x="(\d+)" y="\d+" width="(\d+)""#), bars);

    let docker =
        page("server/deploying").number("| docker stop, default | nothing | {} s");
    let service = unit("snippets/deploy/zero-downtime.service");
    let systemd = service["TimeoutStopSec"].parse().unwrap();
    let kubernetes = seconds(&pod()["terminationGracePeriodSeconds"]);
    let lines =
        [docker, systemd, kubernetes].map(|second| vec![(10 * second).to_string()]);
    assert_eq!(find(r#"<path d="M(\d+) 20V"#), lines);
    let ticks = [docker, stop(), systemd, kubernetes]
        .map(|second| vec![(10 * second).to_string(), second.to_string()]);
    assert_eq!(find(r#"<text x="(\d+)" y="\d+">(\d+)</text>"#), ticks);
    let described = [lame_duck, linger, drain, docker, systemd, kubernetes];
    let description = &find("<desc[^>]*>(.*)</desc>")[0][0];
    let numbers: Vec<u64> = Regex::new(r"\d+")
        .unwrap()
        .find_iter(description)
        .map(|number| number.as_str().parse().unwrap())
        .collect();
    assert_eq!(numbers, described);
}

/// The processes of one process group. They are killed when it is dropped.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0);
        Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
    }
}

#[test]
fn a_shell_keeps_the_signal_from_its_child() {
    let script = r#""$0" "$@"; true"#;
    page("server/deploying").says(&format!("sh -c '{script}'"));
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.arg(harness::cargo::program("zero-downtime")).arg("127.0.0.1:0");
    command.process_group(0);
    let (mut shell, lines) = spawn(command);
    let group = Group(shell.id());
    let line = lines.recv_timeout(LIMIT).unwrap();
    let address = line.strip_prefix("listening on http://").unwrap();
    let pid = shell.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(shell.wait().unwrap().signal(), Some(15));
    // The shell is gone, and the server was not told.
    let mut connection = Connection::new(TcpStream::connect(address).unwrap());
    connection.get("/ready");
    let answer = connection.response().unwrap();
    assert_eq!(answer.status(), "HTTP/1.1 200 OK");
    assert_eq!(answer.header("connection"), None);
    drop(group);
    assert_eq!(lines.iter().count(), 0, "it was told to stop");
}

#[test]
fn exec_gives_the_signal_to_the_program() {
    let script = r#"exec "$0" "$@""#;
    page("server/deploying").says(&format!("sh -c '{script}'"));
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.arg(harness::cargo::program("zero-downtime"));
    let program = Program::listen(command);
    program.signal("TERM");
    assert_eq!(program.line(), "stopping: not ready, still accepting");
}
