//! axum, with the answers of the server of Performance.

use std::error::Error;

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpSocket;

static LARGE: [u8; 1 << 20] = [b'.'; 1 << 20];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::new()
        .route("/13", get(async || Bytes::from_static(b"Hello, World!")))
        .route("/16384", get(async || Bytes::from_static(&LARGE[..16384])))
        .route("/1048576", get(async || Bytes::from_static(&LARGE)));
    // The backlog of `TcpListener::bind` does not take all clients at once.
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(std::env::args().nth(1).unwrap().parse()?)?;
    let listener = socket.listen(4096)?;
    println!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    axum::serve(listener, router).await?;
    Ok(())
}
