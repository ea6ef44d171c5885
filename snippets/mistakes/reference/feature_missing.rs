use hyper_util::client::legacy::connect::proxy::Tunnel;

fn main() {}
