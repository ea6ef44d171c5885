use futures_util::{Stream, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};

fn body<S>(stream: S) -> BoxBody<Bytes, hyper::Error>
where
    S: Stream<Item = Result<Frame<Bytes>, hyper::Error>> + Send + Sync + 'static,
{
    StreamBody::new(stream).boxed()
}

fn main() {}
