// ANCHOR: program
//! What an error of hyper 0.14 prints.

extern crate hyper_014 as hyper;

use hyper::{Body, Client, Uri};

// ANCHOR: report
fn report(error: hyper::Error) -> String {
    error.to_string()
}
// ANCHOR_END: report

#[tokio::main]
async fn main() {
    // Nothing listens on port 1.
    let url = Uri::from_static("http://127.0.0.1:1/");
    let client: Client<_, Body> = Client::new();
    let error = client.get(url).await.unwrap_err();
    let report = report(error);
    assert!(
        report.starts_with(
            "error trying to connect: tcp connect error: \
             Connection refused"
        ),
        "{report}"
    );
}
// ANCHOR_END: program
