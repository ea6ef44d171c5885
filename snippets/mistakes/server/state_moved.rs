use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};

async fn handle(
    _: Arc<String>,
    _: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::default())
}

fn main() {
    let state = Arc::new(String::new());
    service_fn(move |request| async move { handle(state, request).await });
}
