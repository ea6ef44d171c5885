use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};

fn main() {
    let service = service_fn(|_: Request<Incoming>| async {
        Ok(Response::new(Full::<Bytes>::from("hello")))
    });
    drop(service);
}
