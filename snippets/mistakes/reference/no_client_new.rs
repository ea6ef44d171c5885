use hyper_util::client::legacy::Client;

fn main() {
    let client = Client::new();
}
