use std::pin::Pin;

use hyper::Request;
use hyper::service::Service;

struct Layer<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Layer<S>
where
    S: Service<Request<B>> + 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>>>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        Box::pin(async move { self.inner.call(request).await })
    }
}

fn main() {}
