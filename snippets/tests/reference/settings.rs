//! What src/reference/settings.md promises: each option of each builder has one row, in the release that it says, and
//! with the default that the sources have. What a peer can observe of the defaults is observed.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::panic;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use regex::Regex;
use sources::Crate;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use harness::{page, root};

const PAGE: &str = "src/reference/settings.md";

/// A row: its line, the option, the release, the default, the text.
struct Row {
    line: usize,
    option: String,
    release: Option<String>,
    default: String,
    text: String,
}

/// The options in the table below a heading. An option of one of several builders has the builder before it.
fn rows(heading: &str) -> Vec<Row> {
    let rows = harness::rows(PAGE, heading).into_iter();
    rows.map(|row| {
        let (names, release) = match row.cells[0].split_once(", ") {
            Some((names, release)) => (names, Some(release.to_owned())),
            None => (&*row.cells[0], None),
        };
        Row {
            line: row.line,
            option: names.replace('`', ""),
            release,
            default: row.cells[1].clone(),
            text: row.cells[2].clone(),
        }
    })
    .collect()
}

/// A builder, and where its options stand on the page.
struct Builder {
    of: &'static str,
    file: &'static str,
    name: &'static str,
    heading: &'static str,
    /// What stands before the option in the table, where the table is one of several builders.
    before: &'static str,
}

#[rustfmt::skip]
const BUILDERS: [Builder; 15] = [
    Builder { of: "hyper", file: "src/server/conn/http1.rs", name: "Builder", heading: "HTTP/1 servers", before: "" },
    Builder { of: "hyper", file: "src/server/conn/http2.rs", name: "Builder", heading: "HTTP/2 servers", before: "" },
    Builder { of: "hyper-util", file: "src/server/conn/auto/mod.rs", name: "Builder", heading: "Both versions on one port", before: "" },
    Builder { of: "hyper", file: "src/client/conn/http1.rs", name: "Builder", heading: "HTTP/1 clients", before: "" },
    Builder { of: "hyper", file: "src/client/conn/http2.rs", name: "Builder", heading: "HTTP/2 clients", before: "" },
    Builder { of: "hyper-util", file: "src/client/legacy/client.rs", name: "Builder", heading: "The pooled client", before: "" },
    Builder { of: "hyper-util", file: "src/client/legacy/connect/http.rs", name: "HttpConnector", heading: "HttpConnector", before: "" },
    Builder { of: "hyper-util", file: "src/client/pool/cache.rs", name: "Builder", heading: "The pieces of a pool", before: "cache " },
    Builder { of: "hyper-util", file: "src/client/pool/map.rs", name: "Builder", heading: "The pieces of a pool", before: "map " },
    Builder { of: "hyper-util", file: "src/client/pool/negotiate.rs", name: "Builder", heading: "The pieces of a pool", before: "negotiate " },
    Builder { of: "hyper-util", file: "src/client/legacy/connect/proxy/tunnel.rs", name: "Tunnel", heading: "Proxies", before: "Tunnel " },
    Builder { of: "hyper-util", file: "src/client/legacy/connect/proxy/socks/v4/mod.rs", name: "SocksV4", heading: "Proxies", before: "SocksV4 " },
    Builder { of: "hyper-util", file: "src/client/legacy/connect/proxy/socks/v5/mod.rs", name: "SocksV5", heading: "Proxies", before: "SocksV5 " },
    Builder { of: "hyper-util", file: "src/client/proxy/matcher.rs", name: "Builder", heading: "Proxies", before: "matcher " },
    Builder { of: "hyper-util", file: "src/client/pool/singleton.rs", name: "Singleton", heading: "The pieces of a pool", before: "singleton " },
];

fn locked(name: &str) -> Crate {
    sources::locked(name, if name == "hyper" { "1" } else { "0.1" })
}

/// The options of a builder, with the first line of their documentation.
fn options(of: &Crate, builder: &Builder) -> BTreeMap<String, String> {
    let methods = of.methods(builder.file, builder.name).into_iter();
    methods
        .filter(|it| it.is_option && !it.deprecated && it.name != "retain")
        .map(|it| {
            let first = it.docs.lines().next().unwrap_or_default().to_owned();
            (it.name, first)
        })
        .collect()
}

#[test]
fn each_option_has_its_row() {
    let (hyper, util) = (locked("hyper"), locked("hyper-util"));
    let mut defects = Vec::new();
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for builder in &BUILDERS {
        let of = if builder.of == "hyper" { &hyper } else { &util };
        let mut missing = options(of, builder);
        // Those of the tables of the two versions come again with a prefix: the next test has them.
        if builder.heading == "The pooled client" {
            missing.retain(|name, _| prefixed(name).is_none());
        }
        known
            .entry(builder.heading)
            .or_default()
            .extend(missing.keys().map(|name| format!("{}{name}", builder.before)));
        for row in rows(builder.heading) {
            if let Some(name) = row.option.strip_prefix(builder.before)
                && missing.remove(name).is_none()
                && (!builder.before.is_empty()
                    || known[builder.heading].contains(name))
            {
                defects.push(format!(
                    "{PAGE}:{}: `{}` has a row already: keep one",
                    row.line, row.option
                ));
            }
        }
        defects.extend(missing.into_iter().map(|(name, docs)| {
            format!("{PAGE}: {} {} has `{name}` ({}: \"{docs}\"): add a row for `{}{name}` to the table below `## {}`", builder.of, of.version, builder.file, builder.before, builder.heading)
        }));
    }
    for (heading, known) in known {
        for row in rows(heading) {
            if !known.contains(&row.option) {
                defects.push(format!("{PAGE}:{}: no builder of `## {heading}` has an option `{}`: correct the name, or remove the row", row.line, row.option));
            }
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}

/// An option of the pooled client that is one of HTTP/1 or HTTP/2: the heading, and the name there.
fn prefixed(name: &str) -> Option<(&'static str, &str)> {
    match name {
        "http09_responses" => Some(("HTTP/1 clients", name)),
        "timer" => Some(("HTTP/2 clients", name)),
        "http2_only" => None,
        _ => match name.split_once('_')? {
            ("http1", name) => Some(("HTTP/1 clients", name)),
            ("http2", name) => Some(("HTTP/2 clients", name)),
            _ => None,
        },
    }
}

/// The page says which options of hyper those builders of hyper-util lack that say "the same".
#[test]
fn what_hyper_util_lacks_is_said() {
    let util = locked("hyper-util");
    let auto = |name| {
        let builder = Builder {
            of: "hyper-util",
            file: "src/server/conn/auto/mod.rs",
            name,
            heading: "",
            before: "",
        };
        options(&util, &builder).into_keys().collect::<BTreeSet<_>>()
    };
    let legacy = options(&util, &BUILDERS[5]);
    let with = |heading: &str| -> BTreeSet<String> {
        let names = legacy.keys().filter_map(|name| prefixed(name));
        names
            .filter(|(of, _)| *of == heading)
            .map(|(_, name)| name.to_owned())
            .collect()
    };
    let same = [
        ("HTTP/1 servers", "HTTP/1 servers", auto("Http1Builder")),
        ("HTTP/2 servers", "HTTP/2 servers", auto("Http2Builder")),
        ("HTTP/1 clients", "The pooled client", with("HTTP/1 clients")),
        ("HTTP/2 clients", "The pooled client", with("HTTP/2 clients")),
    ];
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let mut said: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut lacking: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (table, place, names) in same {
        let all: BTreeSet<String> =
            rows(table).into_iter().map(|row| row.option).collect();
        let more: Vec<_> = names.difference(&all).collect();
        assert!(more.is_empty(), "hyper-util has more than hyper: {more:?}");
        lacking.entry(place).or_default().extend(all.difference(&names).cloned());
        let section = page.split(&format!("\n## {place}\n")).nth(1).unwrap();
        let mut paragraphs = section.trim().split("\n\n");
        // The words for the search stand first.
        let paragraph = paragraphs.find(|it| !it.starts_with("<!--")).unwrap();
        let (_, list) = paragraph
            .split_once("all but")
            .unwrap_or_else(|| panic!("{PAGE}: `## {place}` says no \"all but\""));
        let list = list.split(". ").next().unwrap();
        said.insert(
            place,
            list.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        );
    }
    assert_eq!(
        said, lacking,
        "{PAGE}: what stands after \"all but\" (left), and what hyper-util lacks (right)"
    );
}

/// What the page says of hyper 0.14 is what snippets/upgrading/names.txt has.
#[test]
fn what_they_were_called_in_0_14() {
    let list =
        fs::read_to_string(root().join("snippets/upgrading/names.txt")).unwrap();
    let names: BTreeSet<&str> = list.lines().collect();
    let said = harness::rows(PAGE, "In hyper 0.14");
    let places = [
        ("HTTP/1 servers", "hyper::server::Builder"),
        ("HTTP/2 servers", "hyper::server::Builder"),
        ("HTTP/1 clients", "hyper::client::Builder"),
        ("HTTP/2 clients", "hyper::client::Builder"),
        ("The pooled client", "hyper::client::Builder"),
        ("HttpConnector", "hyper::client::connect::HttpConnector"),
    ];
    let was = Regex::new("`([a-z_]+)` was `([a-z0-9_]+)`").unwrap();
    for (heading, of) in places {
        let row = said.iter().find(|row| row.cells[0] == heading).expect("a row");
        let called = &row.cells[1];
        let renamed: BTreeMap<String, String> = was
            .captures_iter(called)
            .map(|it| (it[1].to_owned(), it[2].to_owned()))
            .collect();
        let called = row.codes(1);
        let prefix = called.iter().find(|it| it.ends_with('_'));
        let mut expected = BTreeSet::new();
        for row in rows(heading) {
            let option = row.option;
            // hyper's interface to C is not in the list.
            if option == "preserve_header_order" {
                continue;
            }
            let name = if let Some(renamed) = renamed.get(&option) {
                renamed.clone()
            } else if called.contains(&&*option) {
                option.clone()
            } else {
                format!("{}{option}", prefix.unwrap_or(&""))
            };
            let anywhere = ["hyper::server::conn::http1::Builder", of];
            if !anywhere.iter().any(|of| names.contains(&*format!("{of}::{name}"))) {
                expected.insert(option);
            }
        }
        let lacks: BTreeSet<String> =
            row.codes(2).into_iter().map(str::to_owned).collect();
        assert_eq!(
            lacks, expected,
            "{PAGE}:{}: {heading}: what the page says that 0.14 lacked (left), and what it lacked (right)",
            row.line
        );
    }
}

/// The release beside an option is that of the page of versions, which has a row with its name.
#[test]
fn the_releases_are_those_of_the_versions() {
    let versions =
        fs::read_to_string(root().join("src/reference/versions.md")).unwrap();
    let mut seen = 0;
    let headings: BTreeSet<_> =
        BUILDERS.iter().map(|builder| builder.heading).collect();
    for heading in headings {
        for row in rows(heading) {
            let option = row.option.rsplit(' ').next().unwrap().to_owned();
            let Some(release) = row.release else { continue };
            let full = if release.starts_with("hyper-util") {
                release.clone()
            } else {
                format!("{release}.0")
            };
            let what = versions
                .lines()
                .find(|line| line.starts_with(&format!("| {full} |")));
            let what = what.unwrap_or_else(|| {
                panic!(
                    "{PAGE}:{}: src/reference/versions.md has no row {full}",
                    row.line
                )
            });
            let word = Regex::new(&format!(r"\b{option}\b")).unwrap();
            assert!(
                word.is_match(what),
                "{PAGE}:{}: {option} is of {release}, and the row {full} of src/reference/versions.md does not name it: correct one of them",
                row.line
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// A default as the page has it, as a number: bytes, milliseconds, or a plain number.
fn said(default: &str) -> String {
    let number =
        Regex::new(r"^([\d,]+)( KiB| MiB| seconds?| milliseconds)?$").unwrap();
    let Some(found) = number.captures(default) else { return default.to_owned() };
    let factor = match found.get(2).map_or("", |unit| unit.as_str().trim()) {
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "second" | "seconds" => 1000,
        _ => 1,
    };
    (found[1].replace(',', "").parse::<u64>().unwrap() * factor).to_string()
}

/// A default as a source has it: `Some(DEFAULT_WINDOW)`, of `const DEFAULT_WINDOW: u32 = 1024 * 1024;`.
fn evaluate(source: &str, expression: &str) -> String {
    let expression = expression.trim();
    for wrapper in ["Some(", "Dur::Default("] {
        if let Some(inner) = expression.strip_prefix(wrapper) {
            return evaluate(source, inner.strip_suffix(')').unwrap());
        }
    }
    for (unit, factor) in [("secs", 1000), ("millis", 1)] {
        let call = format!("Duration::from_{unit}(");
        if let Some(inner) = expression.strip_prefix(&call) {
            let number: u64 =
                evaluate(source, inner.strip_suffix(')').unwrap()).parse().unwrap();
            return (number * factor).to_string();
        }
    }
    match expression {
        "true" => return "on".to_owned(),
        "false" => return "off".to_owned(),
        "None" | "usize::MAX" | "Time::Empty" => return "none".to_owned(),
        _ => {}
    }
    let name = expression.rsplit("::").next().unwrap();
    if let Some((_, rest)) = source.split_once(&format!("const {name}:")) {
        let (_, value) = rest.split_once('=').unwrap();
        return evaluate(source, value.split(';').next().unwrap());
    }
    let sum = expression.split('+').map(|product| {
        let factors = product.split('*');
        let factors = factors.map(|it| it.trim().replace('_', "").parse::<u64>());
        factors
            .map(|it| it.unwrap_or_else(|_| panic!("a number: {expression}")))
            .product::<u64>()
    });
    sum.sum::<u64>().to_string()
}

/// The value of `field: value,` in a function of a source, `fn default() -> Config`.
fn field(source: &str, function: &str, field: &str) -> Option<String> {
    let (_, body) =
        source.split_once(function).unwrap_or_else(|| panic!("no {function}"));
    let value = Regex::new(&format!(r"(?m)^\s*{field}: (.*),$")).unwrap();
    let end = body.find("\n    }\n").unwrap_or(body.len());
    Some(value.captures(&body[..end])?[1].to_owned())
}

/// Each default is the one that the sources have.
#[test]
fn the_defaults_are_those_of_the_sources() {
    let (hyper, util) = (locked("hyper"), locked("hyper-util"));
    let h2 = sources::locked("h2", "0.4");
    let h2 = h2.text("src/proto/mod.rs") + &h2.text("src/frame/settings.rs");
    // Where hyper says `None`, and something else decides.
    let others =
        hyper.text("src/proto/h1/role.rs") + &hyper.text("src/proto/h1/io.rs");
    let elsewhere = BTreeMap::from([
        ("max_headers", (&others, "DEFAULT_MAX_HEADERS")),
        ("max_buf_size", (&others, "DEFAULT_MAX_BUFFER_SIZE")),
        (
            "max_pending_accept_reset_streams",
            (&h2, "DEFAULT_REMOTE_RESET_STREAM_MAX"),
        ),
        ("header_table_size", (&h2, "DEFAULT_SETTINGS_HEADER_TABLE_SIZE")),
        ("max_concurrent_reset_streams", (&h2, "DEFAULT_RESET_STREAM_MAX")),
        (
            "reset_stream_duration",
            (&h2, "Duration::from_secs(DEFAULT_RESET_STREAM_SECS)"),
        ),
    ]);
    // The table, the sources, where the values are set, and what the fields have before the name.
    let server = hyper.text("src/server/conn/http1.rs");
    let client = hyper.text("src/client/conn/http1.rs");
    let tables = [
        ("HTTP/1 servers", server, "pub fn new() -> Self", "h1_"),
        (
            "HTTP/2 servers",
            hyper.text("src/proto/h2/server.rs"),
            "fn default() -> Config",
            "",
        ),
        ("HTTP/1 clients", client, "pub fn new() -> Builder", "h1_"),
        (
            "HTTP/2 clients",
            hyper.text("src/proto/h2/client.rs"),
            "fn default() -> Config",
            "",
        ),
        (
            "The pooled client",
            util.text("src/client/legacy/client.rs"),
            "pub fn new<E>(executor: E) -> Self",
            "",
        ),
        (
            "HttpConnector",
            util.text("src/client/legacy/connect/http.rs"),
            "pub fn new_with_resolver(resolver: R)",
            "",
        ),
    ];
    let mut defects = Vec::new();
    let mut compared = 0;
    for (heading, source, function, prefix) in &tables {
        for row in rows(heading) {
            let option = row.option.trim_start_matches("set_");
            let names = [
                format!("{prefix}{option}"),
                option.to_owned(),
                option.replace("connection_window", "conn_window"),
                option.replace("send_buf_size", "send_buffer_size"),
                option.replace("auto_date_header", "date_header"),
                option.replace("pool_", ""),
                option.replace("http09", "h09"),
                format!("set_{option}"),
            ];
            let Some(value) =
                names.iter().find_map(|name| field(source, function, name))
            else {
                // What httparse is told, off without a call; and what has no one value.
                let off = [
                    "ignore_invalid_headers",
                    "allow_multiple_spaces_in_request_line_delimiters",
                    "allow_spaces_after_header_name_in_responses",
                    "allow_obsolete_multiline_headers_in_responses",
                    "ignore_invalid_headers_in_responses",
                    "http2_only",
                ];
                let none = [
                    "timer",
                    "keepalive",
                    "keepalive_interval",
                    "keepalive_retries",
                    "local_address",
                    "local_addresses",
                ];
                let expected = if off.contains(&option) {
                    "off"
                } else if none.contains(&option) {
                    "none"
                } else {
                    panic!(
                        "{PAGE}:{}: {function} sets no {option}: {names:?}",
                        row.line
                    )
                };
                if row.default != expected {
                    defects
                        .push(format!("{PAGE}:{}: {option} is {expected}", row.line));
                }
                continue;
            };
            let value = match (value.as_str(), elsewhere.get(option)) {
                ("None", Some((source, constant))) => evaluate(source, constant),
                _ => evaluate(source, &value),
            };
            if said(&row.default) != value {
                defects.push(format!(
                    "{PAGE}:{}: the default of `{}` is {value}, and the page says {}: correct the cell, and look at what its text and other pages say",
                    row.line, row.option, row.default
                ));
            }
            compared += 1;
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
    assert!(compared > 50, "{compared} defaults");
}

/// An option whose text says that it needs a timer is one whose source asks for one, and no other.
#[test]
fn needs_a_timer_is_said_where_it_is_true() {
    for heading in
        ["HTTP/1 servers", "HTTP/2 servers", "HTTP/1 clients", "HTTP/2 clients"]
    {
        for row in rows(heading) {
            let needs = ["header_read_timeout", "keep_alive_interval"];
            assert_eq!(
                row.text.contains("Needs a timer"),
                needs.contains(&&*row.option),
                "{PAGE}:{}: {}",
                row.line,
                row.option
            );
        }
    }
}

/// The numbers of the defaults that no peer sees, and those of the other crates.
#[test]
fn the_numbers_are_those_of_the_sources() {
    let hyper = locked("hyper");
    let h2 = sources::locked("h2", "0.4");
    let limits = h2.text("src/proto/mod.rs");
    let constant =
        |source: &str, name: &str| evaluate(source, name).parse::<u64>().unwrap();
    let settings = page("reference/settings");
    let io = hyper.text("src/proto/h1/io.rs");
    let kib = settings.number("max_buf_size | {} KiB");
    assert_eq!(kib * 1024, constant(&io, "DEFAULT_MAX_BUFFER_SIZE"));
    let server = hyper.text("src/proto/h2/server.rs");
    let kib = settings.number("max_send_buf_size | {} KiB");
    assert_eq!(kib * 1024, constant(&server, "DEFAULT_MAX_SEND_BUF_SIZE"));
    let client = hyper.text("src/proto/h2/client.rs");
    let mib = settings.number("max_send_buf_size | {} MiB");
    assert_eq!(mib * 1024 * 1024, constant(&client, "DEFAULT_MAX_SEND_BUF_SIZE"));
    let resets = settings.number("max_concurrent_reset_streams | {}");
    assert_eq!(resets, constant(&limits, "DEFAULT_RESET_STREAM_MAX"));
    let seconds = settings.number("reset_stream_duration, hyper 1.10 | {} second");
    assert_eq!(seconds, constant(&limits, "DEFAULT_RESET_STREAM_SECS"));
    let resets = settings.number("max_local_error_reset_streams, hyper 1.2 | {}");
    assert_eq!(resets, constant(&server, "DEFAULT_MAX_LOCAL_ERROR_RESET_STREAMS"));
    let config =
        field(&client, "fn default() -> Config", "max_local_error_reset_streams");
    let resets = settings.number("max_local_error_reset_streams, hyper 1.9 | {}");
    assert_eq!(resets.to_string(), evaluate(&client, &config.unwrap()));
    let resets = constant(&limits, "DEFAULT_REMOTE_RESET_STREAM_MAX");
    assert_eq!(
        settings.number("max_pending_accept_reset_streams, hyper 1.2 | {}"),
        resets
    );
    assert_eq!(
        settings.number("max_pending_accept_reset_streams, hyper 1.3 | {}"),
        resets
    );
    let table = constant(
        &h2.text("src/frame/settings.rs"),
        "DEFAULT_SETTINGS_HEADER_TABLE_SIZE",
    );
    assert_eq!(
        settings.number("header_table_size, hyper 1.10 | {} KiB") * 1024,
        table
    );
    assert_eq!(
        settings.number("header_table_size, hyper 1.5 | {} KiB") * 1024,
        table
    );
    let util = locked("hyper-util").text("src/client/legacy/client.rs");
    let idle = settings.number("pool_idle_timeout | {} seconds");
    assert!(
        util.contains(&format!("idle_timeout: Some(Duration::from_secs({idle}))"))
    );
}

// What a peer can observe, with builders that set nothing.

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new("hello".into()))
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// The kind and the payload of the next frame. `None` at the end.
async fn frame(stream: &mut DuplexStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The settings that the peer announces, by their number, and the window of its connection.
async fn announced(stream: &mut DuplexStream) -> (BTreeMap<u64, u64>, u64) {
    let (kind, payload) = frame(stream).await.unwrap();
    assert_eq!(kind, SETTINGS);
    let settings = payload.chunks(6).map(|it| (number(&it[..2]), number(&it[2..])));
    let settings = settings.collect();
    // A server acknowledges the settings of the client first.
    loop {
        let (kind, payload) = frame(stream).await.unwrap();
        if kind == WINDOW_UPDATE {
            return (settings, 65_535 + number(&payload));
        }
    }
}

/// The numbers of the settings in RFC 9113, section 6.5.2.
const MAX_CONCURRENT_STREAMS: u64 = 3;
const INITIAL_WINDOW_SIZE: u64 = 4;
const MAX_FRAME_SIZE: u64 = 5;
const MAX_HEADER_LIST_SIZE: u64 = 6;

#[tokio::test]
async fn an_http2_server_announces_its_defaults() {
    let settings = page("reference/settings");
    let (mut peer, io) = duplex(1 << 16);
    let builder = server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service_fn(hello)));
    peer.write_all(PREFACE).await.unwrap();
    peer.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
    let (announced, window) = announced(&mut peer).await;
    let (kib, mib) = (1024, 1024 * 1024);
    let expected = [
        (MAX_CONCURRENT_STREAMS, settings.number("max_concurrent_streams | {}")),
        (
            INITIAL_WINDOW_SIZE,
            settings.number("initial_stream_window_size | {} MiB") * mib,
        ),
        (MAX_FRAME_SIZE, settings.number("max_frame_size | {} KiB") * kib),
        (
            MAX_HEADER_LIST_SIZE,
            settings.number("max_header_list_size | {} KiB") * kib,
        ),
    ];
    // Neither a size for the table of headers, nor the CONNECT of WebSockets.
    assert_eq!(announced, BTreeMap::from(expected));
    assert_eq!(
        window,
        settings.number("initial_connection_window_size | {} MiB") * mib
    );
}

#[tokio::test]
async fn an_http2_client_announces_its_defaults() {
    let settings = page("reference/settings");
    let (mut peer, io) = duplex(1 << 16);
    let builder = client::conn::http2::Builder::new(TokioExecutor::new());
    let (_sender, connection) =
        builder.handshake::<_, Full<Bytes>>(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let mut preface = [0; PREFACE.len()];
    peer.read_exact(&mut preface).await.unwrap();
    let (announced, window) = announced(&mut peer).await;
    let mib = 1024 * 1024;
    // The rows of the client come after those of the server, so the page is read with another number.
    let stream =
        settings.number("initial_stream_window_size | {} MiB | bytes of a response");
    assert_eq!(announced[&INITIAL_WINDOW_SIZE], stream * mib);
    let frame =
        settings.number("max_frame_size | {} KiB | of a frame that the server");
    assert_eq!(announced[&MAX_FRAME_SIZE], frame * 1024);
    let head = settings.number("max_header_list_size, hyper 1.3 | {} KiB");
    assert_eq!(announced[&MAX_HEADER_LIST_SIZE], head * 1024);
    assert!(!announced.contains_key(&MAX_CONCURRENT_STREAMS));
    let connection =
        "initial_connection_window_size | {} MiB | the same for all responses";
    assert_eq!(window, settings.number(connection) * mib);
}

/// Without an interval nothing is sent in an hour; with one, the connection ends when the ping has no answer.
#[tokio::test(start_paused = true)]
async fn pings_are_off_and_have_their_time_for_an_answer() {
    let settings = page("reference/settings");
    let limit =
        settings.number("keep_alive_timeout | {} seconds | the time that a client");
    let interval = Duration::from_secs(7);
    for pings in [false, true] {
        let (mut peer, io) = duplex(1 << 16);
        let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if pings {
            builder.keep_alive_interval(interval);
        }
        tokio::spawn(builder.serve_connection(TokioIo::new(io), service_fn(hello)));
        peer.write_all(PREFACE).await.unwrap();
        peer.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
        let start = Instant::now();
        let silence = async {
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).await
        };
        let ended = timeout(Duration::from_secs(3600), silence).await.is_ok();
        assert_eq!(ended, pings);
        if pings {
            assert_eq!(start.elapsed().as_secs(), 7 + limit);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_pings_only_if_it_is_told_to_and_not_while_idle() {
    let settings = page("reference/settings");
    let limit =
        settings.number("keep_alive_timeout | {} seconds | the time that the server");
    for while_idle in [false, true] {
        let (mut peer, io) = duplex(1 << 16);
        let mut builder = client::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(7));
        if while_idle {
            builder.keep_alive_while_idle(true);
        }
        let (_sender, connection) =
            builder.handshake::<_, Full<Bytes>>(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        let start = Instant::now();
        let silence = async {
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).await
        };
        let ended = timeout(Duration::from_secs(3600), silence).await.is_ok();
        assert_eq!(ended, while_idle);
        if while_idle {
            assert_eq!(start.elapsed().as_secs(), 7 + limit);
        }
    }
}

/// What a server with these settings answers to these bytes, and when it closes.
async fn answer(
    builder: &server::conn::http1::Builder,
    bytes: &[u8],
) -> (String, Duration) {
    let (mut peer, io) = duplex(1 << 20);
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service_fn(hello)));
    let start = Instant::now();
    peer.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(3600), peer.read_to_end(&mut answer)).await;
    (String::from_utf8(answer).unwrap(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_http1_server_has_its_defaults() {
    let settings = page("reference/settings");
    let plain = server::conn::http1::Builder::new();
    let mut timed = server::conn::http1::Builder::new();
    timed.timer(TokioTimer::new());

    // The time for a head, which needs a timer; without one the connection is open after an hour.
    let limit = settings.number("header_read_timeout | {} seconds");
    assert_eq!(answer(&timed, b"GET / HT").await.1.as_secs(), limit);
    assert_eq!(answer(&plain, b"GET / HT").await.1.as_secs(), 3600);

    // The number of headers.
    let limit = settings.number("max_headers, hyper 1.2 | {}");
    for (count, status) in [(limit, "200"), (limit + 1, "431")] {
        let headers = "a: b\r\n".repeat(usize::try_from(count).unwrap());
        let head = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        let (answer, _) = answer(&timed, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }

    // It keeps the connection open, says the date, and writes names in small letters.
    let two = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let (answers, _) = answer(&timed, two).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("\r\ndate: ").count(), 2, "{answers}");
    assert_eq!(answers.matches("\r\ncontent-length: 5\r\n").count(), 2, "{answers}");

    // What breaks the rules is refused.
    for bad in ["GET / HTTP/1.1\r\nb(ad: x\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n"] {
        let (answer, _) = answer(&timed, bad.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad}: {answer}");
    }

    // A limit for heads needs a timer.
    let mut limited = server::conn::http1::Builder::new();
    limited.header_read_timeout(Duration::from_secs(1));
    let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let (_peer, io) = duplex(1);
        drop(limited.serve_connection(TokioIo::new(io), service_fn(hello)));
    }));
    assert!(panicked.is_err());
}

#[test]
fn a_buffer_has_a_smallest_size() {
    let settings = page("reference/settings");
    let [server, client] = [
        settings.number("hyper waits. At least {} bytes, or it panics"),
        settings.number("the largest head. At least {} bytes, or it panics"),
    ];
    for (smallest, is_server) in [(server, true), (client, false)] {
        let smallest = usize::try_from(smallest).unwrap();
        for (size, fits) in [(smallest, true), (smallest - 1, false)] {
            let set = panic::catch_unwind(|| {
                if is_server {
                    server::conn::http1::Builder::new().max_buf_size(size);
                } else {
                    client::conn::http1::Builder::new().max_buf_size(size);
                }
            });
            assert_eq!(set.is_ok(), fits, "{size}");
        }
    }
}
