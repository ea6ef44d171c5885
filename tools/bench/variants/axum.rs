//! axum, as its documentation says: `with_graceful_shutdown`.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

async fn work(time: Duration) -> &'static str {
    sleep(time).await;
    "done\n"
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::new()
        .route("/", get(|| work(Duration::from_millis(20))))
        .route("/slow", get(|| work(Duration::from_secs(2))));
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(std::env::args().nth(1).unwrap()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async move { terminate.recv().await.unwrap_or_default() };
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    Ok(())
}
