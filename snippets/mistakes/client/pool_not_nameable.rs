use hyper::Uri;
use hyper_util::client::pool::map::Map;

type Key = fn(&Uri) -> String;
type Value = fn(&Uri) -> ();

struct Pools {
    map: Map<(Key, Value), Uri>,
}

fn main() {}
