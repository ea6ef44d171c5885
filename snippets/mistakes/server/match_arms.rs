use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};

fn echo(request: Request<Incoming>) {
    let _response = match request.method() {
        &Method::POST => Response::new(request.into_body()),
        _ => Response::new(Full::<Bytes>::from("POST something\n")),
    };
}

fn main() {}
