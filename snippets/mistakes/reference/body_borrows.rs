use std::convert::Infallible;

use http_body_util::Full;
use hyper::Response;

async fn handle() -> Result<Response<Full<&'static [u8]>>, Infallible> {
    let text = format!("{} seconds", 30);
    Ok(Response::new(Full::new(text.as_bytes())))
}

fn main() {
    drop(handle());
}
