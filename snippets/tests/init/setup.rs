//! What src/init/setup.md promises.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use toml::{Table, Value};

use harness::{Program, root};

/// The features of snippets/packages/minimal/Cargo.toml: with all of them Hello World is built and serves a
/// request. Without any one of them it does not compile, but for tokio's `time`, which
/// hyper-util's `tokio` turns on.
#[test]
fn the_slimmest_features_serve_a_request() {
    // Two runs of the tests at once must not write the manifests at once.
    fs::create_dir_all(target()).unwrap();
    let lock = fs::File::create(target().join("lock")).unwrap();
    lock.lock().unwrap();
    let manifest = manifest();
    let build = cargo("whole", &manifest, "build");
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let program = Program::listen(Command::new(target().join("debug/minimal")));
    let mut connection = program.connect();
    connection.get("/");
    assert_eq!(connection.response().unwrap().text(), "Hello, World!\n");

    let mut needed = Vec::new();
    for (name, dependency) in manifest["dependencies"].as_table().unwrap() {
        let features = dependency.get("features").and_then(Value::as_array);
        for (index, feature) in features.into_iter().flatten().enumerate() {
            let mut fewer = manifest.clone();
            let features = &mut fewer["dependencies"][name]["features"];
            features.as_array_mut().unwrap().remove(index);
            let feature = format!("{name}/{}", feature.as_str().unwrap());
            if !cargo(&feature.replace('/', "-"), &fewer, "check").status.success() {
                needed.push(feature);
            }
        }
    }
    assert_eq!(
        needed,
        [
            "hyper/http1",
            "hyper/server",
            "hyper-util/tokio",
            "tokio/macros",
            "tokio/net",
            "tokio/rt-multi-thread"
        ]
    );
}

/// The manifest of snippets/packages/minimal, made to stand outside the workspace, whose other members
/// would add their features.
fn manifest() -> Table {
    let snippets = root().join("snippets");
    let manifest =
        fs::read_to_string(snippets.join("packages/minimal/Cargo.toml")).unwrap();
    let mut manifest: Table = manifest.parse().unwrap();
    manifest["package"] = toml::toml! { name = "minimal" edition = "2024" }.into();
    let program = snippets.join("server/hello_world.rs").to_str().unwrap().to_owned();
    manifest["bin"][0]["path"] = program.into();
    manifest.insert("workspace".to_owned(), Table::new().into());
    manifest
}

/// Runs cargo with this manifest in a folder of its own, with the versions of Cargo.lock.
fn cargo(name: &str, manifest: &Table, command: &str) -> Output {
    let folder = target().join("manifests").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Cargo.toml"), manifest.to_string()).unwrap();
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    Command::new(env::var_os("CARGO").unwrap())
        .args([command, "--quiet", "--offline", "--target-dir"])
        .arg(target())
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Where all this is built: apart from the programs, so that neither waits for the other.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("minimal")
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_nothing_until_it_is_awaited() {
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let hour = Duration::from_secs(3600);
    let mut status = [0; 15];
    assert!(timeout(hour, client.read_exact(&mut status)).await.is_err());
    tokio::spawn(conn);
    timeout(hour, client.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}
