use http_body_util::BodyExt;
use hyper::body::Incoming;

async fn read(body: Incoming) -> Result<(), hyper::Error> {
    let reader = body.collect().await?.aggregate().reader();
    Ok(())
}

fn main() {
    let _ = read;
}
