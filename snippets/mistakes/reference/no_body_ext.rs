use hyper::body::Incoming;

async fn read(body: Incoming) {
    let _ = body.collect().await;
}

fn main() {
    let _ = read;
}
