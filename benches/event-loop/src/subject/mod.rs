//! What is compared, behind one interface. Each lives on the thread that measures.

mod bare;
#[cfg(feature = "libvirt")]
mod libvirt;
mod postroom;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub trait Subject {
    fn name(&self) -> &'static str;

    /// Watches for readable; every call adds one to the counter. Returns the watch's id.
    fn add_handle(&mut self, fd: RawFd, count: &Arc<AtomicU64>) -> u64;

    /// From readable to writable.
    fn update_handle(&mut self, id: u64);

    fn remove_handle(&mut self, id: u64);

    /// One iteration.
    fn iterate(&mut self);

    /// Lets a timer fire so many times, and says how many seconds late each was, counted from the tick before.
    fn ticks(&mut self, period: Duration, n_ticks: usize) -> Vec<f64>;
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
