//! What a service costs this process: memory, descriptors, threads.

use crate::memory::allocated;
use crate::support::{Usage, eventually};

/// What is in use.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    pub bytes: isize,
    pub descriptors: usize,
    pub threads: usize,
}

impl Meter {
    pub fn read() -> Self {
        Self { bytes: allocated(), descriptors: Usage(0).descriptors(), threads: service_threads() }
    }

    /// Waits until no more is in use than this, but for so many bytes and descriptors; returns how many bytes there are.
    #[track_caller]
    pub fn is_reached_again(self, what: &str, slack: isize, descriptors: usize) -> isize {
        let mut now = Self::read();
        eventually_or(what, self, || {
            now = Self::read();
            now.bytes - self.bytes <= slack
                && now.descriptors <= self.descriptors + descriptors
                && now.threads <= self.threads
        });
        now.bytes - self.bytes
    }
}

#[track_caller]
fn eventually_or(what: &str, wanted: Meter, is_so: impl FnMut() -> bool) {
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually(what, is_so)));
    if let Err(panic) = waited {
        eprintln!("wanted: {wanted:?}\nfound:  {:?}", Meter::read());
        std::panic::resume_unwind(panic);
    }
}

/// The threads of services in this process, by their names; the test harness has its own.
fn service_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("postroom")).count()
}
