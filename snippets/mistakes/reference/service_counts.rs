use std::convert::Infallible;
use std::future::ready;

use http_body_util::Full;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;

fn main() {
    let mut requests = 0;
    service_fn(move |_: hyper::Request<Incoming>| {
        requests += 1;
        let body = Full::<Bytes>::from(requests.to_string());
        ready(Ok::<_, Infallible>(Response::new(body)))
    });
}
