// ANCHOR: program
//! A client with a pool of connections on hyper 1 and hyper-util: it asks twice
//! for the URL that it is given.

use std::env;
use std::error::Error;
use std::time::Duration;

// ANCHOR: visible
use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

async fn get(
    client: &Client<HttpConnector, Empty<Bytes>>,
    url: Uri,
) -> Result<(), Box<dyn Error>> {
    let response = client.get(url).await?;
    let status = response.status();
    let body = response.collect().await?.to_bytes();
    println!("{status}, {} bytes", body.len());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(1))
            .pool_timer(TokioTimer::new())
            .build_http();
    // ANCHOR_END: visible
    let url: Uri =
        env::args().nth(1).ok_or("which URL?")?.parse()?;
    // ANCHOR: visible
    get(&client, url.clone()).await?;
    get(&client, url).await?;
    Ok(())
}
// ANCHOR_END: visible
// ANCHOR_END: program
