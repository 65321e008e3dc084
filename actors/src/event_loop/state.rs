//! What is under the loop's one lock: the registry and the poller, kept in step.
//!
//! The operations come here, and the driver at the beginning and the end of its sleep. System calls made here do not
//! block, and no callback runs or is dropped here.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use super::descriptors::{NIL, Registration};
use super::error::LoopError;
use super::events::Events;
use super::id::{HandleId, TimerId};
use super::interval::Interval;
use super::message::Watched;
use super::poller::{self, Poller};
use super::registry::{Callback, HandleFn, Ready, Registry, TimerFn};
use super::sweep::Sweep;

pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) stopping: bool,
    poller: Poller,
    sweep: Sweep,
    /// Until when the driver sleeps, while it does.
    asleep_until: Option<u64>,
    /// The kernel may hold a registration that it takes no request for any more.
    may_have_orphans: bool,
    changed: Vec<u32>,
}

mod operations;

/// What the driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Stop,
    /// Look what is ready and go on.
    Hurry,
    /// Sleep until something is ready; the alarm is set.
    Sleep,
}

impl State {
    pub(super) fn new() -> io::Result<State> {
        Ok(State {
            registry: Registry::default(),
            stopping: false,
            poller: Poller::new()?,
            sweep: Sweep::default(),
            asleep_until: None,
            may_have_orphans: false,
            changed: Vec::new(),
        })
    }

    pub(super) fn epoll(&self) -> &Arc<OwnedFd> {
        self.poller.epoll()
    }

    /// How many descriptors can be reported at once.
    pub(super) fn n_reportable(&self) -> usize {
        self.registry.descriptors.len() + 2
    }

    /// The driver is about to wait. Where it may sleep, others know from here on that they have to wake it.
    pub(super) fn prepare(&mut self, may_sleep: bool, now: u64) -> io::Result<Plan> {
        if self.stopping {
            return Ok(Plan::Stop);
        }
        let due = self.registry.queue.next_due().into_iter().chain(self.sweep.next_due()).min();
        if self.registry.is_busy() || due.is_some_and(|due| due <= now) {
            return Ok(Plan::Hurry);
        }
        if may_sleep {
            self.poller.set_alarm(due, now)?;
            self.asleep_until = Some(due.unwrap_or(u64::MAX));
        }
        Ok(Plan::Sleep)
    }

    /// Wakes the driver if it sleeps.
    pub(super) fn wake(&mut self) {
        if self.asleep_until.take().is_some() {
            self.poller.wake();
        }
    }

    /// Wakes the driver if it would sleep beyond `due`.
    fn wake_by(&mut self, due: Option<u64>) {
        if due.is_some_and(|due| self.asleep_until.is_some_and(|until| due < until)) {
            self.wake();
        }
    }

    /// The driver is awake: collects what is ready, in the order of registration.
    ///
    /// # Errors
    ///
    /// There is no descriptor for a new epoll set, which would be needed. Everything else works, and the next call tries
    /// again.
    pub(super) fn gather(
        &mut self,
        reported: impl Iterator<Item = (u64, Events)>,
        now: u64,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        self.asleep_until = None;
        self.sweep(now);
        let mut orphaned = false;
        for (token, happened) in reported {
            match token {
                poller::WAKE => {}
                poller::ALARM => self.poller.alarm_rang(),
                token => orphaned |= !self.gather_event(token, happened, ready),
            }
        }
        self.registry.gather_always_ready(ready, &mut self.changed);
        self.registry.gather_timers(now, ready);
        while let Some(descriptor) = self.changed.pop() {
            self.sync_or_disable(descriptor);
        }
        self.registry.gather_broken(ready);
        ready.sort_unstable_by_key(|ready| ready.order);
        // One stale event is nothing unusual: the watch was removed while the event was on its way.
        if orphaned && self.may_have_orphans { self.renew() } else { Ok(()) }
    }

    /// Returns whether the token is that of a registration that exists.
    fn gather_event(&mut self, token: u64, happened: Events, ready: &mut Vec<Ready>) -> bool {
        let slot = token as u32;
        let is_current = self
            .registry
            .descriptors
            .get(slot)
            .is_some_and(|entry| is_polled(entry.registration) && token_of(slot, entry.generation) == token);
        if is_current && self.registry.gather_descriptor(slot, happened, ready) {
            self.changed.push(slot);
        }
        is_current
    }

    /// Looks again at some of the descriptors, each of which may have been closed.
    fn sweep(&mut self, now: u64) {
        let descriptors = &self.registry.descriptors;
        // No more entries than slots, and those fit.
        for slot in self.sweep.step(now, descriptors.n_slots(), descriptors.len() as u32) {
            let is_polling = self.registry.descriptors.get(slot).is_some_and(|entry| entry.wanted().is_some());
            if is_polling && self.sync_anew(slot).is_err() {
                self.disable(slot);
            }
        }
    }

    /// Moves everything to a new epoll set.
    fn renew(&mut self) -> io::Result<()> {
        self.poller.renew()?;
        self.may_have_orphans = false;
        for slot in 0..self.registry.descriptors.n_slots() {
            let Some(entry) = self.registry.descriptors.get(slot) else { continue };
            if !is_polled(entry.registration) {
                continue;
            }
            let wanted = entry.wanted();
            self.registry.descriptors.note(slot, None);
            if let Some(wanted) = wanted
                && self.register(slot, wanted).is_err()
            {
                self.disable(slot);
            }
        }
        Ok(())
    }

    /// Tells the poller what a descriptor wants now.
    fn sync(&mut self, slot: u32) -> Result<(), LoopError> {
        let Some(entry) = self.registry.descriptors.get(slot) else { return Ok(()) };
        match (entry.registration, entry.wanted()) {
            (Registration::Absent, None) => {}
            (Registration::Absent, Some(wanted)) => return self.register(slot, wanted),
            (Registration::Polled(polled), Some(wanted)) if polled == wanted => {}
            (Registration::Polled(_), Some(wanted)) => return self.modify(slot, wanted),
            (Registration::Polled(_), None) => {
                if self.poller.delete(entry.fd).is_err() {
                    self.may_have_orphans = true;
                }
                self.registry.descriptors.note(slot, None);
            }
            (Registration::AlwaysReady(_), Some(wanted)) if !wanted.is_empty() => {}
            (Registration::AlwaysReady(_), _) => self.registry.descriptors.note(slot, None),
        }
        Ok(())
    }

    /// As [`State::sync`], and asks the kernel in any case, so that it comes out if the descriptor was closed, or if its
    /// number was used again.
    fn sync_anew(&mut self, slot: u32) -> Result<(), LoopError> {
        let Some(entry) = self.registry.descriptors.get(slot) else { return Ok(()) };
        match (entry.registration, entry.wanted()) {
            (_, None) if !poller::is_open(entry.fd) => Err(LoopError::NotOpen(entry.fd)),
            (_, None) => self.sync(slot),
            (Registration::Polled(_), Some(wanted)) => self.modify(slot, wanted),
            (_, Some(wanted)) => {
                self.registry.descriptors.note(slot, None);
                self.register(slot, wanted)
            }
        }
    }

    fn sync_or_disable(&mut self, slot: u32) {
        if self.sync(slot).is_err() {
            self.disable(slot);
        }
    }

    /// Begins to poll a descriptor, or notes that it cannot be polled.
    fn register(&mut self, slot: u32, wanted: Events) -> Result<(), LoopError> {
        let generation = self.registry.descriptors.next_generation();
        let Some(entry) = self.registry.descriptors.get_mut(slot) else { return Ok(()) };
        entry.generation = generation;
        let (fd, token) = (entry.fd, token_of(slot, generation));
        let mut added = self.poller.add(fd, wanted, token);
        if errno(&added) == libc::EEXIST {
            // The number was closed and brought back by dup(2) from the same file.
            added = self.poller.modify(fd, wanted, token);
        }
        match errno(&added) {
            libc::EPERM if wanted.is_empty() => {}
            libc::EPERM => {
                self.registry.descriptors.note_always_ready(slot);
                self.wake();
            }
            _ => {
                added.map_err(|error| refusal(fd, error))?;
                self.registry.descriptors.note(slot, Some(wanted));
            }
        }
        Ok(())
    }

    fn modify(&mut self, slot: u32, wanted: Events) -> Result<(), LoopError> {
        let Some(entry) = self.registry.descriptors.get(slot) else { return Ok(()) };
        let fd = entry.fd;
        let modified = self.poller.modify(fd, wanted, token_of(slot, entry.generation));
        if errno(&modified) == libc::ENOENT {
            // The number was closed and used again: watch what is there now, as poll(2) would.
            self.may_have_orphans = true;
            self.registry.descriptors.note(slot, None);
            return self.register(slot, wanted);
        }
        modified.map_err(|error| refusal(fd, error))?;
        self.registry.descriptors.note(slot, Some(wanted));
        Ok(())
    }

    /// A descriptor was found closed: its watches are told, and disabled.
    fn disable(&mut self, slot: u32) {
        // The file may be open under another number, and then the kernel goes on to report it.
        self.may_have_orphans = true;
        self.registry.descriptors.note(slot, None);
        self.registry.disable_all(slot);
        self.wake();
    }
}

fn is_polled(registration: Registration) -> bool {
    matches!(registration, Registration::Polled(_))
}

fn token_of(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

fn errno(result: &io::Result<()>) -> i32 {
    result.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0)
}

fn refusal(fd: RawFd, source: io::Error) -> LoopError {
    if source.raw_os_error() == Some(libc::EBADF) { LoopError::NotOpen(fd) } else { LoopError::Refused { fd, source } }
}
