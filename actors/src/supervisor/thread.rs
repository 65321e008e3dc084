//! A thread with an arbiter, from its start to its join.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle};

use crate::server::StartError;

/// How long the threads of handlers that do not return are waited for, when everything else has ended.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);
/// That time is waited for in steps: a process that was stopped meanwhile loses one of them, not all.
const JOIN_STEPS: u32 = 20;

thread_local! {
    /// Dropped when the thread ends, after everything that ran on its arbiter.
    static ALIVE: RefCell<Option<std_mpsc::SyncSender<()>>> = const { RefCell::new(None) };
}

/// An arbiter, and how to tell that its thread has ended.
pub(crate) struct Thread {
    name: String,
    arbiter: Arbiter,
    /// Closed when the thread has ended.
    ended: std_mpsc::Receiver<()>,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Thread {
    pub(crate) fn start(name: String) -> Result<Self, StartError> {
        let failed = |cause: io::Error| StartError::Thread { name: name.clone(), cause };
        let arbiter = Arbiter::try_new().map_err(failed)?;
        let (alive, ended) = std_mpsc::sync_channel(0);
        let thread_name = format!("postroom {name}");
        arbiter.spawn_fn(move || {
            if let Ok(name) = std::ffi::CString::new(thread_name) {
                // Only for those who look at the threads from outside.
                let _ = rustix::thread::set_name(&name);
            }
            ALIVE.with_borrow_mut(|place| *place = Some(alive));
        });
        Ok(Self { name, arbiter, ended })
    }

    pub(crate) fn handle(&self) -> ArbiterHandle {
        self.arbiter.handle()
    }

    /// Asks its loop to end, which it does when the handler that it runs returns.
    pub(crate) fn stop(&self) {
        self.arbiter.stop();
    }

    /// Joins the thread if it has ended; else gives it back.
    pub(crate) fn reap(self) -> Option<Self> {
        match self.ended.try_recv() {
            Err(std_mpsc::TryRecvError::Empty) => Some(self),
            Err(std_mpsc::TryRecvError::Disconnected) | Ok(()) => {
                // What a handler panicked with at the end was logged; there is nothing more to learn from it.
                let _ = self.arbiter.join();
                None
            }
        }
    }

    /// Joins the thread if it ends within so many steps, which are taken from them; else returns its name.
    fn join(mut self, steps: &mut u32) -> Option<String> {
        self.arbiter.stop();
        loop {
            self = self.reap()?;
            if *steps == 0 {
                return Some(self.name);
            }
            if let Err(std_mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(JOIN_TIMEOUT / JOIN_STEPS) {
                *steps -= 1;
            }
        }
    }
}

/// Stops and joins threads. Returns the names of those that did not end.
pub(crate) fn join(threads: Vec<Thread>) -> Vec<String> {
    let mut steps = JOIN_STEPS;
    threads.iter().for_each(Thread::stop);
    threads.into_iter().filter_map(|thread| thread.join(&mut steps)).collect()
}
