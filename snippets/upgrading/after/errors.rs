// ANCHOR: program
//! What an error of the client of hyper-util prints.

use std::error::Error;

use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

// ANCHOR: report
fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
// ANCHOR_END: report

#[tokio::main]
async fn main() {
    // Nothing listens on port 1.
    let url = Uri::from_static("http://127.0.0.1:1/");
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let error = client.get(url).await.unwrap_err();
    assert_eq!(error.to_string(), "client error (Connect)");
    let report = report(&error);
    assert!(
        report.starts_with(
            "client error (Connect): tcp connect error: \
             Connection refused"
        ),
        "{report}"
    );
}
// ANCHOR_END: program
