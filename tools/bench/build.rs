//! Copies the programs of the book here, and Zero Downtime once more for each of its steps,
//! without the lines between the anchors of that step. Files and WebSockets come in variants. So what is
//! measured is what the page shows.

use std::path::Path;
use std::{env, fs};

/// The steps of Zero Downtime: the names of their anchors.
const STEPS: [&str; 5] =
    ["header", "lame_duck", "backlog", "no_handshakes", "linger"];
/// And those over TLS.
const TLS_STEPS: [&str; 5] =
    ["header", "lame_duck", "under_way", "no_handshakes", "linger"];

fn main() {
    let snippets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../snippets");
    println!("cargo::rerun-if-changed={}", snippets.display());
    let out = env::var("OUT_DIR").unwrap();
    let program = |path: &str| fs::read_to_string(snippets.join(path)).unwrap();
    let write = |name: &str, lines: Vec<&str>| {
        // An included file has no inner doc comments.
        let lines: Vec<_> =
            lines.into_iter().filter(|line| !line.starts_with("//!")).collect();
        fs::write(Path::new(&out).join(name), lines.join("\n")).unwrap();
    };

    write(
        "graceful_shutdown.rs",
        program("server/graceful_shutdown.rs").lines().collect(),
    );
    write("proxy.rs", program("server/proxy.rs").lines().collect());
    for name in ["pool.rs", "basic.rs"] {
        write(name, program(&format!("client/{name}")).lines().collect());
    }
    let files = program("server/files.rs");
    write("files.rs", files.lines().collect());
    for (name, old, new) in [
        (
            "files_4_kib.rs",
            "const PIECE: u64 = 128 * 1024;",
            "const PIECE: u64 = 4096;",
        ),
        (
            "files_inline.rs",
            "spawn_blocking(move || answer(&root, &head)).await",
            "Ok::<_, io::Error>(answer(&root, &head))",
        ),
    ] {
        write(name, replaced("files.rs", &files, old, new).lines().collect());
    }
    let websocket = program("server/websocket.rs");
    write("websocket.rs", websocket.lines().collect());
    let default = replaced(
        "websocket.rs",
        &websocket,
        "        .read_buffer_size(8 * 1024)\n",
        "",
    );
    write("websocket_128_kib.rs", default.lines().collect());
    let whole = program("server/zero_downtime.rs");
    write("zero_downtime.rs", whole.lines().collect());
    for step in STEPS {
        write(
            &format!("without_{step}.rs"),
            without("zero_downtime.rs", &whole, step),
        );
    }

    // The load in the clear needs a server that knows the version without TLS.
    let start = "    stage: watch::Receiver<Stage>,\n) -> Result<()> {\n";
    let tls = "zero_downtime_tls.rs";
    let whole = replaced(
        tls,
        &program(&format!("server/{tls}")),
        start,
        &format!("{start}{IN_THE_CLEAR}"),
    );
    write("zero_downtime_tls.rs", whole.lines().collect());
    for step in TLS_STEPS {
        write(&format!("tls_without_{step}.rs"), without(tls, &whole, step));
    }
    let early =
        replaced(tls, &whole, "*stage == Stage::Closed", "*stage > Stage::Serving");
    write("tls_early_goaway.rs", early.lines().collect());
}

const IN_THE_CLEAR: &str = "
    if env::var_os(\"CLEAR\").is_some() {
        let mut stream = stream;
        let result = serve_http2(TokioIo::new(&mut stream), stage).await;
        let until_gone = async {
            stream.shutdown().await?;
            while stream.read(&mut [0; 4096]).await? > 0 {}
            io::Result::Ok(())
        };
        timeout(CLOSING, until_gone).await.ok();
        return Ok(result?);
    }
";

/// A program with other text in one place.
fn replaced(name: &str, program: &str, old: &str, new: &str) -> String {
    let places = program.matches(old).count();
    assert_eq!(
        places, 1,
        "snippets/server/{name}: the benchmark changes the one place with `{old}`"
    );
    program.replace(old, new)
}

/// The lines of a program without those of a step.
fn without<'a>(name: &str, whole: &'a str, step: &str) -> Vec<&'a str> {
    let (start, end) = (format!("ANCHOR: {step}"), format!("ANCHOR_END: {step}"));
    let mut inside = false;
    let mut removed = 0;
    let mut lines = Vec::new();
    for line in whole.lines() {
        if line.trim_start().strip_prefix("// ") == Some(&start) {
            inside = true;
        }
        if inside {
            removed += 1;
        } else {
            lines.push(line);
        }
        if line.trim_start().strip_prefix("// ") == Some(&end) {
            inside = false;
        }
    }
    assert!(
        removed > 2 && !inside,
        "snippets/server/{name} has no step `{step}` between anchors"
    );
    lines
}
