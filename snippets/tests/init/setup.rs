//! What src/init/setup.md promises.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use std::{env, fs};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use toml::{Table, Value};

use harness::{Program, page, root};

/// The features of snippets/packages/minimal/Cargo.toml: with all of them Hello World is built and serves a
/// request. Without any one of them the compiler says what the page shows, but for tokio's `time`, which
/// hyper-util's `tokio` turns on.
#[test]
fn the_slimmest_features_serve_a_request() {
    let _lock = lock();
    let manifest = manifest();
    let build = cargo("whole", &manifest, None, "build");
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let program = Program::listen(Command::new(target().join("debug/minimal")));
    let mut connection = program.connect();
    connection.get("/");
    assert_eq!(connection.response().unwrap().text(), "Hello, World!\n");

    let page = page("init/setup");
    for (name, dependency) in manifest["dependencies"].as_table().unwrap() {
        let features = dependency.get("features").and_then(Value::as_array);
        for (index, feature) in features.into_iter().flatten().enumerate() {
            let feature = feature.as_str().unwrap();
            let mut fewer = manifest.clone();
            let features = &mut fewer["dependencies"][name]["features"];
            features.as_array_mut().unwrap().remove(index);
            let check = cargo(&format!("{name}-{feature}"), &fewer, None, "check");
            let printed = String::from_utf8_lossy(&check.stderr).into_owned();
            let Some(error) = error(&printed) else {
                assert!(check.status.success(), "{printed}");
                page.says(&format!("{name} {feature} | it compiles"));
                continue;
            };
            page.says(&format!("{name} {feature} | {error}"));
        }
    }
}

/// The error that another page shows whole.
#[test]
fn a_socket_needs_a_wrapper() {
    let file = root().join("snippets/mistakes/upgrading/tokio_io.stderr");
    let error = fs::read_to_string(file).unwrap();
    let (_, text) = error.lines().next().unwrap().split_once(": ").unwrap();
    page("init/setup").says(text);
}

/// cargo itself refuses to build a program with a Rust older than its rust-version.
#[test]
fn no_program_needs_a_newer_rust_than_the_page_says() {
    let minor = page("init/setup").number("The programs need Rust 1.{} or newer.");
    let programs = root().join("snippets");
    let mut seen = 0;
    for package in &harness::cargo::metadata().packages {
        let Some(version) = &package.rust_version else { continue };
        let name = &package.name;
        if package.manifest_path.starts_with(&programs) {
            assert_eq!(version.minor, minor, "{name}: its rust-version");
            seen += 1;
        } else if package.source.is_some() {
            assert!(version.minor <= minor, "{name} needs Rust {version}");
        }
    }
    assert!(seen > 0, "snippets/ has packages");
}

#[test]
fn hyper_and_http_body_util_have_no_default_features() {
    for (name, version) in [("hyper", "1"), ("http-body-util", "0.1")] {
        let features = sources::locked(name, version).features;
        let default = features.get("default");
        assert!(default.is_none_or(Vec::is_empty), "{name}: {default:?}");
    }
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

/// Runs cargo with this manifest in a folder of its own, with the versions of Cargo.lock. The program, if
/// there is one, goes to main.rs.
pub fn cargo(
    name: &str,
    manifest: &Table,
    program: Option<&str>,
    command: &str,
) -> Output {
    let folder = target().join("manifests").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Cargo.toml"), manifest.to_string()).unwrap();
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    if let Some(program) = program {
        fs::write(folder.join("main.rs"), program).unwrap();
    }
    Command::new(env::var_os("CARGO").unwrap())
        .args([command, "--quiet", "--offline"])
        .env("CARGO_TARGET_DIR", target())
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Of the errors of the compiler the first, without its number.
pub fn error(printed: &str) -> Option<&str> {
    printed.lines().find_map(|line| {
        let (code, text) = line.split_once(": ")?;
        code.starts_with("error").then_some(text)
    })
}

/// Two runs of the tests at once must not write the manifests at once.
pub fn lock() -> fs::File {
    fs::create_dir_all(target()).unwrap();
    let lock = fs::File::create(target().join("lock")).unwrap();
    lock.lock().unwrap();
    lock
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

/// An executor that counts its tasks.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Counting {
    fn execute(&self, future: F) {
        self.0.fetch_add(1, Relaxed);
        tokio::spawn(future);
    }
}

#[tokio::test]
async fn the_legacy_client_runs_http1_connections_on_its_executor() {
    let program = Program::start("hello-world");
    let executor = Counting::default();
    let client = Client::builder(executor.clone()).build_http::<Empty<Bytes>>();
    let uri = format!("http://{}/", program.address).parse().unwrap();
    let response = client.get(uri).await.unwrap();
    assert_eq!(response.version(), hyper::Version::HTTP_11);
    assert!(executor.0.load(Relaxed) > 0, "the executor has run a task");
}
