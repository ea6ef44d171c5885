use hyper::{Body, Server};

fn main() {}
