use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;

struct Counted(Rc<Cell<usize>>);

impl Timer for Counted {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.0.set(self.0.get() + 1);
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.set(self.0.get() + 1);
        TokioTimer::new().sleep_until(deadline)
    }
}

fn main() {
    http1::Builder::new().timer(Counted(Rc::default()));
}
