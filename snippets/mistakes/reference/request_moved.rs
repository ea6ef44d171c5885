use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;

async fn handle(request: Request<Incoming>) {
    let _ = request.into_body().collect().await;
    println!("{}", request.uri());
}

fn main() {
    let _ = handle;
}
