//! Postroom's loop.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postroom_actors::event_loop::{Driver, EventLoop, Events, HandleId, Interval};

use super::{Pipe, Subject, lateness};

pub struct Postroom {
    events: EventLoop,
    driver: Driver,
}

impl Postroom {
    pub fn new() -> Postroom {
        let (events, driver) = EventLoop::new().unwrap();
        Postroom { events, driver }
    }
}

fn id_of(id: u64) -> HandleId {
    HandleId::try_from(id as i32).unwrap()
}

impl Subject for Postroom {
    fn name(&self) -> &'static str {
        "postroom"
    }

    fn add_handle(&mut self, fd: RawFd, count: &Arc<AtomicU64>) -> u64 {
        let count = count.clone();
        let call = move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        i32::try_from(self.events.add_handle(fd, Events::READABLE, call).unwrap()).unwrap() as u64
    }

    fn add_pipe(&mut self, pipe: &Arc<Pipe>) -> u64 {
        let (fd, pipe) = (pipe.fd(), pipe.clone());
        i32::try_from(self.events.add_handle(fd, Events::READABLE, move |_| pipe.turn()).unwrap()).unwrap() as u64
    }

    fn update_handle(&mut self, id: u64) {
        self.events.update_handle(id_of(id), Events::WRITABLE).unwrap();
    }

    fn remove_handle(&mut self, id: u64) {
        self.events.remove_handle(id_of(id)).unwrap();
    }

    fn iterate(&mut self) {
        self.driver.iterate(None).unwrap();
    }

    fn ticks(&mut self, period: Duration, n_ticks: usize) -> Vec<f64> {
        let moments = Arc::new(Mutex::new(vec![Instant::now()]));
        let journal = moments.clone();
        let timer =
            self.events.add_timeout(Interval::Every(period), move |_| journal.lock().unwrap().push(Instant::now()));
        while moments.lock().unwrap().len() <= n_ticks {
            self.iterate();
        }
        self.events.remove_timeout(timer.unwrap()).unwrap();
        lateness(&moments.lock().unwrap(), period)
    }
}
