// ANCHOR: program
//! A client with a pool of connections on hyper 0.14: it asks twice for the
//! URL that it is given.

extern crate hyper_014 as hyper;

use std::env;
use std::error::Error;
use std::time::Duration;

// ANCHOR: visible
use hyper::client::HttpConnector;
use hyper::{Body, Client, Uri};

async fn get(
    client: &Client<HttpConnector>,
    url: Uri,
) -> hyper::Result<()> {
    let response = client.get(url).await?;
    let status = response.status();
    let body = hyper::body::to_bytes(response).await?;
    println!("{status}, {} bytes", body.len());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client: Client<HttpConnector, Body> =
        Client::builder()
            .pool_idle_timeout(Duration::from_secs(1))
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
