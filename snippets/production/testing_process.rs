// ANCHOR: program
//! The program as its users start it. In your project this is tests/process.rs.

use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// For each step. Generous, as the machine may be busy.
const LIMIT: Duration = Duration::from_secs(20);

// ANCHOR: start
#[tokio::test]
async fn it_counts_as_a_process() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_testing"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
    let line = line.expect("the program ends, and says why on standard error");
    let url = line.strip_prefix("listening on ").unwrap();
    // ANCHOR_END: start

    // ANCHOR: ask
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("{url}/words"));
    let request = request.body(Full::<Bytes>::from("to be or not")).unwrap();
    let response = timeout(LIMIT, client.request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "4\n");

    child.kill().await.unwrap();
}
// ANCHOR_END: ask
// ANCHOR_END: program
