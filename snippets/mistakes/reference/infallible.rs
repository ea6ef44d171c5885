use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};

async fn echo(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await?;
    Ok(Response::new(Full::from(body.to_bytes())))
}

fn main() {
    let _ = echo;
}
