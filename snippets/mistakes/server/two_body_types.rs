use std::convert::Infallible;

use http_body_util::{Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};

async fn hello(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/" {
        return Ok(Response::new(Empty::new()));
    }
    Ok(Response::new(Full::from("Hello, World!\n")))
}

fn main() {}
