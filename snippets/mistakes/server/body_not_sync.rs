use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes};

fn boxed(
    body: impl Body<Data = Bytes, Error = hyper::Error> + Send + 'static,
) -> BoxBody<Bytes, hyper::Error> {
    body.boxed()
}

fn main() {}
