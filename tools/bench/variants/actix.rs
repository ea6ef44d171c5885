//! actix-web, which listens to SIGTERM by itself.

use std::time::Duration;

use actix_web::{App, HttpServer, web};

async fn work(time: Duration) -> &'static str {
    actix_web::rt::time::sleep(time).await;
    "done\n"
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let server = HttpServer::new(|| {
        App::new()
            .route("/", web::get().to(|| work(Duration::from_millis(20))))
            .route("/slow", web::get().to(|| work(Duration::from_secs(2))))
    })
    .bind(std::env::args().nth(1).unwrap())?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await
}
