// ANCHOR: program
//! A client on hyper-util with a total time limit, a limit for the body and a
//! cap on the requests under way. hyper sets none of these.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

// ANCHOR: get
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::Semaphore;
use tokio::time::timeout;

type BoxError = Box<dyn Error + Send + Sync>;

async fn get(
    client: &Client<HttpConnector, Empty<Bytes>>,
    slots: &Semaphore,
    url: Uri,
    limit: Duration,
) -> Result<Bytes, BoxError> {
    let exchange = async {
        let _slot = slots.acquire().await?;
        let response = client.get(url).await?;
        let body = response.into_body();
        let body = Limited::new(body, 1024 * 1024);
        Ok(body.collect().await?.to_bytes())
    };
    timeout(limit, exchange).await?
}
// ANCHOR_END: get

/// Answers each request with the number of those that it sees at once.
async fn busy_server() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let busy = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) =
            listener.accept().await
        {
            let busy = busy.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while let Ok(1..) =
                    stream.read(&mut request).await
                {
                    let now = 1 + busy
                        .fetch_add(1, Ordering::SeqCst);
                    let pause = Duration::from_millis(10);
                    tokio::time::sleep(pause).await;
                    busy.fetch_sub(1, Ordering::SeqCst);
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\n\
                         content-length: 2\r\n\r\n{now:2}"
                    );
                    stream
                        .write_all(answer.as_bytes())
                        .await
                        .ok();
                }
            });
        }
    });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // ANCHOR: client
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build_http();
    let slots = Arc::new(Semaphore::new(4));
    // ANCHOR_END: client
    let limit = Duration::from_secs(20);

    // Of many requests, no more than four are under way at once.
    let address = busy_server().await?;
    let url: Uri = format!("http://{address}/").parse()?;
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let (client, slots) =
            (client.clone(), slots.clone());
        let url = url.clone();
        requests.spawn(async move {
            get(&client, &slots, url, limit).await
        });
    }
    while let Some(answer) = requests.join_next().await {
        let answer = answer??;
        let now = std::str::from_utf8(&answer)?.trim();
        assert!(now.parse::<usize>()? <= 4, "{now}");
    }

    // A server that accepts and stays silent.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", silent.local_addr()?);
    let limit = Duration::from_millis(100);
    let error = get(&client, &slots, url.parse()?, limit)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "deadline has elapsed");
    Ok(())
}
// ANCHOR_END: program
