use http_body_util::channel::Channel;

fn main() {}
