use http_body_util::Full;
use hyper::Request;
use hyper::body::{Bytes, Incoming};

async fn handle(_request: Request<Incoming>) {}

fn main() {
    handle(Request::new(Full::<Bytes>::from("to be or not")));
}
