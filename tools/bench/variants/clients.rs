//! Clients that send the same GET again and again: `clients NAME URL AT_ONCE SECONDS` prints how many
//! responses came in that time, after a warm-up. Each has one thread.

use std::env;
use std::error::Error;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use curl::easy::{Easy2, Handler, WriteError};
use curl::multi::Multi;
use tokio::task::JoinSet;

/// The page on the pool, and that on one connection.
#[allow(dead_code)]
mod pool {
    include!(concat!(env!("OUT_DIR"), "/pool.rs"));
}
#[allow(dead_code)]
mod basic {
    include!(concat!(env!("OUT_DIR"), "/basic.rs"));
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const WARM_UP: Duration = Duration::from_millis(200);
/// The size of the body.
const SIZE: usize = 1024;

/// When to count, and what was counted.
#[derive(Clone)]
struct Clock {
    from: Instant,
    to: Instant,
    count: Arc<AtomicU64>,
}

impl Clock {
    /// Takes note of a response. Whether there is time for another one.
    fn took(&self, status: u16, size: usize) -> Result<bool> {
        if (status, size) != (200, SIZE) {
            return Err(format!("status {status}, {size} bytes").into());
        }
        let now = Instant::now();
        if now >= self.from && now < self.to {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(now < self.to)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [name, url, at_once, seconds] = &arguments[..] else {
        panic!("usage: clients NAME URL AT_ONCE SECONDS");
    };
    let from = Instant::now() + WARM_UP;
    let to = from + Duration::from_secs_f64(seconds.parse().unwrap());
    let clock = Clock { from, to, count: Arc::default() };
    let at_once = at_once.parse().unwrap();
    let result = match &**name {
        "curl" => curl(url, at_once, &clock),
        _ => asynchronous(name, url, at_once, &clock).await,
    };
    if let Err(error) = result {
        eprintln!("{name}: {error}");
        exit(1);
    }
    println!("{}", clock.count.load(Ordering::Relaxed));
}

async fn asynchronous(
    name: &str,
    url: &str,
    at_once: usize,
    clock: &Clock,
) -> Result<()> {
    let pool = pool::builder().build_http();
    let reqwest = reqwest::Client::builder().no_proxy().build()?;
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..at_once {
        let (url, clock) = (url.to_owned(), clock.clone());
        match name {
            "pool" => {
                let client = pool.clone();
                tasks.spawn(async move {
                    loop {
                        let fetched = pool::fetch(&client, &url).await?;
                        if !clock.took(fetched.status.as_u16(), fetched.body.len())? {
                            return Ok(());
                        }
                    }
                });
            }
            "connection" => {
                tasks.spawn(async move {
                    let target = basic::target(&url)?;
                    let mut sender = basic::connect(&target.address).await?;
                    loop {
                        let response = basic::get(&mut sender, &target).await?;
                        let size = response.body().len();
                        if !clock.took(response.status().as_u16(), size)? {
                            return Ok(());
                        }
                    }
                });
            }
            "reqwest" => {
                let client = reqwest.clone();
                tasks.spawn(async move {
                    loop {
                        let response = client.get(&url).send().await?;
                        let status = response.status().as_u16();
                        if !clock.took(status, response.bytes().await?.len())? {
                            return Ok(());
                        }
                    }
                });
            }
            _ => return Err("no such client".into()),
        }
    }
    tasks.join_all().await.into_iter().collect()
}

/// The body that a handle of libcurl receives.
struct Body(Vec<u8>);

impl Handler for Body {
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<usize, WriteError> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// libcurl, by its multi interface: one thread, and a handle for each request at a time.
fn curl(url: &str, at_once: usize, clock: &Clock) -> Result<()> {
    let multi = Multi::new();
    let mut running = Vec::new();
    for token in 0..at_once {
        let mut easy = Easy2::new(Body(Vec::new()));
        easy.url(url)?;
        easy.noproxy("*")?;
        let mut handle = multi.add2(easy)?;
        handle.set_token(token)?;
        running.push(Some(handle));
    }
    while running.iter().any(Option::is_some) {
        multi.perform()?;
        let mut ended = Vec::new();
        multi.messages(|message| {
            ended.push((message.token().unwrap(), message.result().unwrap()));
        });
        if ended.is_empty() {
            multi.wait(&mut [], Duration::from_secs(1))?;
        }
        for (token, result) in ended {
            result?;
            let mut easy = multi.remove2(running[token].take().unwrap())?;
            let status = easy.response_code()?.try_into()?;
            if clock.took(status, easy.get_ref().0.len())? {
                easy.get_mut().0.clear();
                let mut handle = multi.add2(easy)?;
                handle.set_token(token)?;
                running[token] = Some(handle);
            }
        }
    }
    Ok(())
}
