//! actix-web, with the answers of the server of Performance.

use actix_web::web::{Bytes, get};
use actix_web::{App, HttpServer};

static LARGE: [u8; 1 << 20] = [b'.'; 1 << 20];

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let server = HttpServer::new(|| {
        App::new()
            .route("/13", get().to(async || Bytes::from_static(b"Hello, World!")))
            .route("/16384", get().to(async || Bytes::from_static(&LARGE[..16384])))
            .route("/1048576", get().to(async || Bytes::from_static(&LARGE)))
    })
    .bind(std::env::args().nth(1).unwrap())?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await
}
