use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Bytes;

fn hello() -> Response<BoxBody<Bytes, hyper::Error>> {
    Response::new(Full::from("hello").boxed())
}

fn main() {
    hello();
}
