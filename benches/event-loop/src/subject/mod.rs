//! What is compared, behind one interface. Each lives on the thread that measures.

mod bare;
#[cfg(feature = "libvirt")]
mod libvirt;
mod postroom;

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub trait Subject {
    fn name(&self) -> &'static str;

    /// Watches for readable; every call adds one to the counter. Returns the watch's id.
    fn add_handle(&mut self, fd: RawFd, count: &Arc<AtomicU64>) -> u64;

    /// Watches a pipe for readable; every call is [`Pipe::turn`].
    fn add_pipe(&mut self, pipe: &Arc<Pipe>) -> u64;

    /// From readable to writable.
    fn update_handle(&mut self, id: u64);

    fn remove_handle(&mut self, id: u64);

    /// One iteration.
    fn iterate(&mut self);

    /// Lets a timer fire so many times, and says how many seconds late each was, counted from the tick before.
    fn ticks(&mut self, period: Duration, n_ticks: usize) -> Vec<f64>;
}

/// A pipe with a byte in it.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    count: Arc<AtomicU64>,
}

impl Pipe {
    pub fn new(count: &Arc<AtomicU64>) -> Pipe {
        let (read, write) = rustix::pipe::pipe().unwrap();
        assert_eq!(rustix::io::write(&write, b"x"), Ok(1));
        Pipe { read, write, count: count.clone() }
    }

    pub fn fd(&self) -> RawFd {
        self.read.as_raw_fd()
    }

    /// Reads the byte, writes it back, and adds one to the counter.
    pub fn turn(&self) {
        let mut byte = [0];
        assert_eq!(rustix::io::read(&self.read, &mut byte), Ok(1));
        assert_eq!(rustix::io::write(&self.write, &byte), Ok(1));
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn all() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(postroom::Postroom::new()),
        Box::new(bare::Bare::new()),
        #[cfg(feature = "libvirt")]
        Box::new(libvirt::Libvirt::new()),
    ]
}

/// How late each of these moments is, which should be a period apart.
fn lateness(moments: &[std::time::Instant], period: Duration) -> Vec<f64> {
    moments.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() - period.as_secs_f64()).collect()
}
