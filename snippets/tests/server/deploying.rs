//! Holds src/server/deploying.md to its sources: the times of the program zero-downtime, and the
//! files in snippets/deploy/. A number that no sentence here accounts for fails the test: add the
//! sentence to `sentences`. What the program does is tested in zero_downtime.rs.

use std::collections::BTreeMap;
use std::fs;

use harness::root;

const PAGE: &str = "src/server/deploying.md";
const PICTURE: &str = "src/pictures/stop-times.svg";
const PROGRAM: &str = "snippets/server/zero_downtime.rs";
const KUBERNETES: &str = "snippets/deploy/kubernetes.yaml";
const COMPOSE: &str = "snippets/deploy/compose.yaml";
const SERVICE: &str = "snippets/deploy/zero-downtime.service";
const SOCKET: &str = "snippets/deploy/zero-downtime.socket";
const DOCKERFILE: &str = "snippets/deploy/Dockerfile";

// What others say, and no file of this book can.
/// <https://docs.docker.com/reference/cli/docker/container/stop/>
const DOCKER_STOP: u64 = 10;
/// <https://learn.microsoft.com/windows/console/handlerroutine>
const CTRL_CLOSE: u64 = 5;

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A constant of the program zero-downtime, in seconds.
pub fn constant(name: &str) -> u64 {
    let start = format!("const {name}: Duration = Duration::from_secs(");
    let program = read(PROGRAM);
    let value = program.lines().find_map(|line| line.strip_prefix(&start));
    let value =
        value.unwrap_or_else(|| panic!("{PROGRAM}: no line begins `{start}`"));
    value.trim_end_matches(");").parse().unwrap()
}

/// The values of a file, by name.
struct Values(&'static str, BTreeMap<String, String>);

impl Values {
    /// A file in the plain part of YAML that this book uses: `kind.key.key`, the kind where there is
    /// one. The items of a list have the name of the list; two items must not have the same keys.
    fn yaml(file: &'static str) -> Values {
        let mut values = BTreeMap::new();
        for document in read(file).split("\n---\n") {
            let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
            let mut parents: Vec<(usize, &str)> =
                kind.map(|kind| (0, kind)).into_iter().collect();
            let first = parents.len();
            for line in document.lines() {
                let item = line.trim_start().trim_start_matches("- ");
                let (indent, item) = (line.len() - item.len(), item.trim_end());
                if item.is_empty() || item.starts_with('#') {
                    continue;
                }
                let (key, value) = item
                    .split_once(':')
                    .unwrap_or_else(|| panic!("{file}: `{line}` is no `key: value`"));
                while parents.len() > first && parents[parents.len() - 1].0 >= indent
                {
                    parents.pop();
                }
                parents.push((indent, key));
                let keys: Vec<_> = parents.iter().map(|(_, key)| *key).collect();
                let old = values.insert(keys.join("."), value.trim().to_owned());
                assert_eq!(
                    old,
                    None,
                    "{file}: {} stands there twice",
                    keys.join(".")
                );
            }
        }
        Values(file, values)
    }

    /// A unit of systemd: `Section.Key`.
    fn unit(file: &'static str) -> Values {
        let mut values = BTreeMap::new();
        let mut section = String::new();
        for line in read(file).lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            } else if let Some((key, value)) = line.split_once('=') {
                values.insert(format!("{section}.{key}"), value.to_owned());
            }
        }
        Values(file, values)
    }

    fn text(&self, name: &str) -> &str {
        let Values(file, values) = self;
        values.get(name).unwrap_or_else(|| panic!("{file}: it has no {name}"))
    }

    fn seconds(&self, name: &str) -> u64 {
        let text = self.text(name);
        text.trim_end_matches('s').parse().unwrap_or_else(|_| {
            panic!("{}: {name} is `{text}`: write seconds", self.0)
        })
    }
}

/// All times, in seconds, from the files that set them.
struct Times {
    lame_duck: u64,
    linger: u64,
    drain: u64,
    pre_stop: u64,
    grace: u64,
    /// The period and the failures of each probe.
    readiness: (u64, u64),
    liveness: (u64, u64),
    systemd: u64,
    compose: u64,
}

impl Times {
    fn read() -> Times {
        let kubernetes = Values::yaml(KUBERNETES);
        let pod = |name: &str| {
            kubernetes.seconds(&format!("Deployment.spec.template.spec.{name}"))
        };
        let probe = |name: &str| {
            let value = |key: &str| pod(&format!("containers.{name}.{key}"));
            (value("periodSeconds"), value("failureThreshold"))
        };
        Times {
            lame_duck: constant("LAME_DUCK"),
            linger: constant("LINGER"),
            drain: constant("DRAIN_DEADLINE"),
            pre_stop: pod("containers.lifecycle.preStop.sleep.seconds"),
            grace: pod("terminationGracePeriodSeconds"),
            readiness: probe("readinessProbe"),
            liveness: probe("livenessProbe"),
            systemd: Values::unit(SERVICE).seconds("Service.TimeoutStopSec"),
            compose: Values::yaml(COMPOSE)
                .seconds("services.zero-downtime.stop_grace_period"),
        }
    }

    /// From the closed listener to the end.
    fn closed(&self) -> u64 {
        self.linger + self.drain
    }

    /// From the signal to the end.
    fn program(&self) -> u64 {
        self.lame_duck + self.closed()
    }
}

#[test]
fn the_program_ends_before_it_is_killed() {
    let times = Times::read();
    let in_program = times.program();
    let terms = "LAME_DUCK + LINGER + DRAIN_DEADLINE";
    for (file, name, killed, needed, terms) in [
        (
            KUBERNETES,
            "terminationGracePeriodSeconds",
            times.grace,
            times.pre_stop + in_program,
            format!("preStop + {terms}"),
        ),
        (SERVICE, "TimeoutStopSec", times.systemd, in_program, terms.to_owned()),
        (COMPOSE, "stop_grace_period", times.compose, in_program, terms.to_owned()),
    ] {
        // The sum does not count a slow machine.
        assert!(
            killed >= needed + 5,
            "{file}: {name} is {killed} s, but {terms} is {needed} s ({PROGRAM}): make it {} or more, or make those shorter",
            needed + 5
        );
    }
    assert!(
        in_program > DOCKER_STOP.max(CTRL_CLOSE),
        "{PROGRAM}: it now ends within {in_program} s: {PAGE} says that the {DOCKER_STOP} s of `docker stop` and the {CTRL_CLOSE} s of Windows are too few: mend the page"
    );
}

#[test]
fn the_probes_fit() {
    let times = Times::read();
    let (period, failures) = times.readiness;
    let (seen, lame_duck) = (period * failures, times.lame_duck);
    assert!(
        seen < lame_duck,
        "{KUBERNETES}: the readinessProbe needs up to {period} × {failures} = {seen} s to fail, but LAME_DUCK is {lame_duck} s ({PROGRAM}): probe more often, or make LAME_DUCK longer"
    );
    let (period, failures) = times.liveness;
    let (restart, closed) = ((failures - 1) * period, times.closed());
    assert!(
        restart > closed,
        "{KUBERNETES}: the livenessProbe may fail after ({failures} − 1) × {period} = {restart} s, but the program goes on for {closed} s without a listener ({PROGRAM}): allow more failures"
    );
}

#[test]
fn the_files_name_the_same_program_port_and_signal() {
    let kubernetes = Values::yaml(KUBERNETES);
    let pod = |name: &str| {
        kubernetes
            .text(&format!("Deployment.spec.template.spec.containers.{name}"))
            .to_owned()
    };
    let service = Values::unit(SERVICE);
    let socket = Values::unit(SOCKET);
    let compose = Values::yaml(COMPOSE);
    let dockerfile = read(DOCKERFILE);
    let program = service.text("Service.ExecStart");
    let address = socket.text("Socket.ListenStream");
    let (_, port) = address.rsplit_once(':').unwrap();
    let same = |file: &str, what: &str, is: &str, should: &str| {
        assert!(
            is == should,
            "{file}: {what} is `{is}`, elsewhere `{should}`: make them the same"
        );
    };
    same(KUBERNETES, "args", &pod("args"), &format!("[\"{address}\"]"));
    same(KUBERNETES, "containerPort", &pod("ports.containerPort"), port);
    for probe in ["readinessProbe", "livenessProbe"] {
        same(
            KUBERNETES,
            probe,
            &pod(&format!("{probe}.httpGet.port")),
            &pod("ports.name"),
        );
    }
    same(
        KUBERNETES,
        "targetPort",
        kubernetes.text("Service.spec.ports.targetPort"),
        &pod("ports.name"),
    );
    let label = pod("name");
    for selector in [
        "Deployment.spec.selector.matchLabels.app",
        "Deployment.spec.template.metadata.labels.app",
        "Service.spec.selector.app",
    ] {
        same(KUBERNETES, selector, kubernetes.text(selector), &label);
    }
    same(
        COMPOSE,
        "ports",
        compose.text("services.zero-downtime.ports"),
        &format!("[\"{port}:{port}\"]"),
    );
    same(
        COMPOSE,
        "dockerfile",
        compose.text("services.zero-downtime.build.dockerfile"),
        DOCKERFILE,
    );
    same(SERVICE, "KillSignal", service.text("Service.KillSignal"), "SIGTERM");
    same(SERVICE, "Requires", service.text("Unit.Requires"), "zero-downtime.socket");
    for line in
        [format!("ENTRYPOINT [\"{program}\"]"), format!("CMD [\"{address}\"]")]
    {
        assert!(
            dockerfile.lines().any(|there| there == line),
            "{DOCKERFILE}: it has no line `{line}`: the program and its address are those of {SERVICE} and {SOCKET}"
        );
    }
    // /ready says when to stop sending, and / goes on answering: see zero_downtime.rs.
    same(
        KUBERNETES,
        "the path of the readinessProbe",
        &pod("readinessProbe.httpGet.path"),
        "/ready",
    );
    same(
        KUBERNETES,
        "the path of the livenessProbe",
        &pod("livenessProbe.httpGet.path"),
        "/",
    );
}

/// What the page says in numbers, and where the numbers come from.
fn sentences() -> Vec<(String, &'static str)> {
    let times = Times::read();
    let Times { lame_duck, linger, drain, pre_stop, grace, systemd, compose, .. } =
        times;
    let (program, closed) = (times.program(), times.closed());
    let pod = pre_stop + program;
    let sum = format!("{lame_duck} + {linger} + {drain} = {program} s");
    // The picture has 10 units a second.
    let bar = |from: u64, y: u64, seconds: u64| {
        format!(
            "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"16\"/>",
            10 * from,
            10 * seconds
        )
    };
    let tick = |second: u64| {
        format!("<text x=\"{}\" y=\"158\">{second}</text>", 10 * second)
    };
    let stop = |name: &str, second: u64| {
        format!("<text x=\"{}\" y=\"12\">{name}</text>", 10 * second)
    };
    let (ready_period, ready_failures) = times.readiness;
    let (live_period, live_failures) = times.liveness;
    let outside = "the documents of Kubernetes, Docker, systemd or Windows";
    vec![
        (format!("- `preStop`, {pre_stop} s:"), KUBERNETES),
        (format!("- `LAME_DUCK`, {lame_duck} s:"), PROGRAM),
        (format!("- `LINGER`, {linger} s:"), PROGRAM),
        (format!("- `DRAIN_DEADLINE`, {drain} s:"), PROGRAM),
        (
            format!(
                "| Kubernetes | {grace} s | {pre_stop} + {lame_duck} + {linger} + {drain} = {pod} s | {} s |",
                grace.saturating_sub(pod)
            ),
            KUBERNETES,
        ),
        (
            format!(
                "| systemd | {systemd} s | {sum} | {} s |",
                systemd.saturating_sub(program)
            ),
            SERVICE,
        ),
        (
            format!(
                "| Docker Compose | {compose} s | {sum} | {} s |",
                compose.saturating_sub(program)
            ),
            COMPOSE,
        ),
        (
            format!("| `docker stop`, untold | {DOCKER_STOP} s | {sum} | none |"),
            PROGRAM,
        ),
        (
            format!(
                "preStop takes {pre_stop} seconds, LAME_DUCK {lame_duck}, LINGER {linger} and DRAIN_DEADLINE {drain}. SIGTERM comes after {pre_stop} seconds, SIGKILL after {grace}."
            ),
            PROGRAM,
        ),
        (bar(0, 28, pre_stop), KUBERNETES),
        (bar(pre_stop, 56, lame_duck), PROGRAM),
        (bar(pre_stop + lame_duck, 84, linger), PROGRAM),
        (bar(pod - drain, 112, drain), PROGRAM),
        (format!("<path d=\"M{pre_stop}0 20V139M{grace}0 20V139\"/>"), KUBERNETES),
        (
            format!(
                "<path d=\"M0 139V144M{pre_stop}0 139V144M{pod}0 139V144M{grace}0 139V144\"/>"
            ),
            PROGRAM,
        ),
        (stop("SIGTERM", pre_stop), KUBERNETES),
        (stop("SIGKILL", grace), KUBERNETES),
        (
            "<text x=\"0\" y=\"158\" text-anchor=\"start\">0 s</text>".to_owned(),
            KUBERNETES,
        ),
        (tick(pre_stop), KUBERNETES),
        (tick(pod), PROGRAM),
        (tick(grace), KUBERNETES),
        (
            format!(
                "× `failureThreshold` = {ready_period} × {ready_failures} = {} s, and `LAME_DUCK` is {lame_duck} s.",
                ready_period * ready_failures
            ),
            KUBERNETES,
        ),
        (
            "defaults, 10 × 3 = 30 s, are longer than the whole stop".to_owned(),
            outside,
        ),
        (format!("for `LINGER` + `DRAIN_DEADLINE` = {closed} s"), PROGRAM),
        (
            format!(
                "but {live_failures} failures, one every {live_period} s, take at least ({live_failures} − 1) × {live_period} = {} s: the program has ended before.",
                (live_failures - 1) * live_period
            ),
            KUBERNETES,
        ),
        ("since Kubernetes 1.30".to_owned(), outside),
        ("as file descriptor 3,".to_owned(), "the test of an inherited socket"),
        (
            format!("nobody accepts: at most {closed} s and the time to start"),
            PROGRAM,
        ),
        (format!("**`TimeoutStopSec={systemd}`**"), SERVICE),
        ("The usual default, 90 s, is safe too".to_owned(), outside),
        (r#"`sh -c '"$0" "$@"; true'`"#.to_owned(), "the tests of zero_downtime.rs"),
        (r#"`sh -c 'exec "$0" "$@"'`"#.to_owned(), "the tests of zero_downtime.rs"),
        ("is process 1 of the container".to_owned(), outside),
        ("the shell is process 1.".to_owned(), outside),
        ("does nothing to process 1.".to_owned(), outside),
        ("a shell is process 1.".to_owned(), outside),
        ("Process 1 does not handle SIGTERM".to_owned(), outside),
        (
            format!(
                "**Docker waits {DOCKER_STOP} s** between SIGTERM and SIGKILL, and the program may need {program} s."
            ),
            PROGRAM,
        ),
        (format!("`docker run --stop-timeout {compose}`"), COMPOSE),
        ("**`0.0.0.0`** is there".to_owned(), SOCKET),
        ("`127.0.0.1`".to_owned(), PROGRAM),
        (format!("| `ctrl_close` | {CTRL_CLOSE} s |"), outside),
        ("| `ctrl_logoff` | 5 s |".to_owned(), outside),
        ("| `ctrl_shutdown` | 20 s |".to_owned(), outside),
        (
            format!(
                "The {program} s of this program do not fit into {CTRL_CLOSE} s:"
            ),
            PROGRAM,
        ),
        ("The 503 of `/ready`".to_owned(), "the tests of zero_downtime.rs"),
        ("status 137.** That is 128 + 9, SIGKILL.".to_owned(), outside),
        ("**502 during a rollout.**".to_owned(), outside),
        (format!("**A pod takes {grace} s to stop, each time.**"), KUBERNETES),
    ]
}

/// The page with its picture and without its code blocks, in one line.
fn prose() -> String {
    let mut fenced = false;
    let include = "{{#include ../pictures/stop-times.svg}}";
    let page = read(PAGE);
    assert!(page.contains(include), "{PAGE}: it should show {PICTURE}");
    let page = page.replace(include, &read(PICTURE));
    let lines = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The text without what stands between `start` and `end`.
fn without(text: &str, start: &str, end: &str) -> String {
    let mut parts = text.split(start);
    let mut kept = parts.next().unwrap().to_owned();
    for part in parts {
        kept.push(' ');
        kept.push_str(part.split_once(end).map_or("", |(_, rest)| rest));
    }
    kept
}

#[test]
fn every_number_on_the_page_is_that_of_its_source() {
    let mut rest = prose();
    let mut sentences = sentences();
    let wrong: Vec<_> = sentences
        .iter()
        .filter(|(sentence, _)| !rest.contains(sentence))
        .map(|(sentence, source)| {
            let file = if sentence.starts_with('<') { PICTURE } else { PAGE };
            format!("{file}: it should say `{sentence}` (source: {source}): mend it, or its source")
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    // The longer ones first: a short sentence may be a part of a long one.
    sentences.sort_by_key(|(sentence, _)| std::cmp::Reverse(sentence.len()));
    for (sentence, _) in sentences {
        rest = rest.replace(&sentence, " ");
    }
    let rest = without(&without(&rest, "](", ")"), "<", ">");
    let mut unknown = Vec::new();
    let words: Vec<_> = rest.split_whitespace().collect();
    for (index, word) in words.iter().enumerate() {
        if word.contains(|c: char| c.is_ascii_digit()) {
            let near =
                words[index.saturating_sub(4)..words.len().min(index + 4)].join(" ");
            unknown.push(format!("{PAGE}: no source is known for the number in `{near}`: mend it, or add its sentence to snippets/tests/server/deploying.rs"));
        }
    }
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
}
