//! What the loop sleeps on: an epoll set with the watched descriptors, an eventfd by which other threads wake the
//! loop, and a timerfd that expires when the next timer is due.
//!
//! It knows numbers, masks and tokens, no watches. The module's unsafe code is here. Two functions have it because the
//! watched descriptors belong to others, who may close them at any time: they are numbers to this crate and never
//! borrowed, which safe interfaces would ask for. The third place is one about a type, see [`Reported`].

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::events::Events;
use crate::timerfd;

/// Tokens of the loop's own descriptors. Those of watched ones have a slot in their lower half, and no slot has the
/// highest number.
pub(super) const WAKE: u64 = u64::MAX;
pub(super) const ALARM: u64 = u64::MAX - (1 << 32);

#[derive(Debug)]
pub(super) struct Poller {
    epoll: Arc<OwnedFd>,
    wake: OwnedFd,
    alarm: OwnedFd,
    /// For when the alarm is set.
    alarm_due: Option<u64>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        let poller = Poller {
            epoll: Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            alarm: timerfd::create()?,
            alarm_due: None,
        };
        poller.add_own()?;
        Ok(poller)
    }

    /// Edge triggered, so that neither has to be read: each write and each expiry is one event.
    fn add_own(&self) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &self.wake, epoll::EventData::new_u64(WAKE), flags)?;
        epoll::add(&self.epoll, &self.alarm, epoll::EventData::new_u64(ALARM), flags)?;
        Ok(())
    }

    /// Begins anew with an empty set. The only way to be rid of a registration whose number was closed while the file
    /// stays open under another one: the kernel goes on to report it, and takes no request to forget it.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        self.add_own()
    }

    /// What to wait on. Another one after [`Poller::renew`].
    pub(super) fn epoll(&self) -> &Arc<OwnedFd> {
        &self.epoll
    }

    /// Makes the wait return, on whichever thread.
    pub(super) fn wake(&self) {
        // It fails only where the count would overflow, after 2⁶⁴ - 1 wake-ups.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Makes the wait return at `due`, or never, where `now` is the time.
    pub(super) fn set_alarm(&mut self, due: Option<u64>, now: u64) -> io::Result<()> {
        // One that is set too early costs an idle wake-up, so one for later is good enough for "never".
        if due != self.alarm_due
            && let Some(at) = due
        {
            timerfd::set(&self.alarm, at.saturating_sub(now))?;
            self.alarm_due = due;
        }
        Ok(())
    }

    /// The alarm has gone off.
    pub(super) fn alarm_rang(&mut self) {
        self.alarm_due = None;
    }

    pub(super) fn add(&self, fd: RawFd, mask: Events, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, mask, token)
    }

    pub(super) fn modify(&self, fd: RawFd, mask: Events, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, mask, token)
    }

    pub(super) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, Events::NONE, 0)
    }

    fn control(&self, operation: i32, fd: RawFd, mask: Events, token: u64) -> io::Result<()> {
        let mut flags = 0; // Errors and hang-ups are always reported.
        if mask.contains(Events::READABLE) {
            flags |= libc::EPOLLIN;
        }
        if mask.contains(Events::WRITABLE) {
            flags |= libc::EPOLLOUT;
        }
        let mut event = libc::epoll_event { events: flags as u32, u64: token };
        // SAFETY: the kernel reads `event`, which outlives the call, and touches no other memory. `fd` is a number that
        // the kernel looks up; one that is not open is an error and nothing worse.
        let status = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// What the kernel reported, with the room for it.
#[derive(Default)]
pub(super) struct Reported(Vec<epoll::Event>);

// SAFETY: an event is 32 bits of flags and 64 bits of data, plain numbers that the kernel copied. It is not `Send` only
// because the data may also be read as a pointer. Nobody here puts one in or reads one.
unsafe impl Send for Reported {}

impl Reported {
    /// Forgets what was reported, and makes room for so many events.
    pub(super) fn make_room(&mut self, n_events: usize) {
        self.0.clear();
        self.0.reserve(n_events);
    }

    /// Waits for events, as many as there is room for; for ever where there is no limit.
    pub(super) fn wait(&mut self, epoll: &OwnedFd, limit: Option<Duration>) -> io::Result<()> {
        // A time that does not fit is for ever.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut self.0), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tokens, with what happened.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Events)> {
        self.0.iter().map(|event| (event.data.u64(), events_of(event.flags)))
    }
}

/// Whether a number is that of an open descriptor.
pub(super) fn is_open(fd: RawFd) -> bool {
    // SAFETY: the call takes a number and returns one; it touches no memory and changes nothing.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// What the kernel reported, in our bits.
fn events_of(flags: epoll::EventFlags) -> Events {
    let mut events = Events::NONE;
    for (flag, event) in [
        (epoll::EventFlags::IN, Events::READABLE),
        (epoll::EventFlags::OUT, Events::WRITABLE),
        (epoll::EventFlags::ERR, Events::ERROR),
        (epoll::EventFlags::HUP, Events::HANG_UP),
    ] {
        if flags.contains(flag) {
            events |= event;
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn wait(poller: &Poller, limit: Duration) -> Vec<(u64, Events)> {
        let mut reported = Reported::default();
        reported.make_room(8);
        reported.wait(poller.epoll(), Some(limit)).unwrap();
        reported.iter().collect()
    }

    #[test]
    fn numbers_that_are_not_open_are_errors() {
        let poller = Poller::new().unwrap();
        for fd in [-1, 999_999] {
            assert!(!is_open(fd));
            for result in [poller.add(fd, Events::READABLE, 1), poller.modify(fd, Events::NONE, 1), poller.delete(fd)] {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
            }
        }
        assert!(is_open(poller.wake.as_raw_fd()));
    }

    #[test]
    fn a_descriptor_is_reported_with_its_token_until_it_is_deleted() {
        let poller = Poller::new().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        poller.add(ours.as_raw_fd(), Events::READABLE | Events::WRITABLE, 7).unwrap();
        assert_eq!(wait(&poller, Duration::ZERO), [(7, Events::WRITABLE)]);
        drop(theirs);
        poller.modify(ours.as_raw_fd(), Events::NONE, 8).unwrap();
        assert_eq!(wait(&poller, Duration::ZERO), [(8, Events::HANG_UP)]);
        poller.delete(ours.as_raw_fd()).unwrap();
        assert_eq!(wait(&poller, Duration::ZERO), []);
    }

    #[test]
    fn a_wake_up_and_an_alarm_are_one_event_each() {
        let mut poller = Poller::new().unwrap();
        poller.wake();
        assert_eq!(wait(&poller, Duration::from_secs(10)), [(WAKE, Events::READABLE)]);
        poller.set_alarm(Some(1_000_000), 0).unwrap();
        assert_eq!(wait(&poller, Duration::from_secs(10)), [(ALARM, Events::READABLE)]);
        assert_eq!(wait(&poller, Duration::ZERO), []);
    }
}
