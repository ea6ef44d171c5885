use hyper::Uri;
use hyper_util::client::pool::map::{Map, builder::Built};

type Key = fn(&Uri) -> String;
type Value = fn(&Uri) -> ();

struct Pools {
    map: Map<Built<Key, Value>, Uri>,
}

fn main() {}
