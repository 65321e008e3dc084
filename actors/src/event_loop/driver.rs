//! The loop itself: sleeps until something is ready, and runs the callbacks of one iteration.
//!
//! One task or thread at a time has it, and what this does happens in this order: callbacks in the order of
//! registration, then the drop of those that were removed. It holds the lock between callbacks only, once per callback.
//! On an arbiter, it lets go of the thread every [`turn::Budget::TURN`], also in the middle of an iteration.
//!
//! ```text
//!   prepare ──► sleep ──► gather ──► for each that is ready: take, run, put back ──► drop what was removed ──┐
//!      ▲   lock              lock             lock                                      lock                 │
//!      └─────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::handle::Shared;
use super::poller::Reported;
use super::registry::{Callback, Ready};
use super::state::Plan;
use crate::watch::watch;

mod turn;

use turn::{Budget, Phase};

/// After this time a callback is reported that has not let go of the loop, unless set otherwise.
const SLOW_AFTER: Duration = Duration::from_millis(100);

/// How long the loop waits, on an arbiter, before it tries again to have its epoll set watched.
const RETRY: Duration = Duration::from_millis(20);

/// The loop itself, to be run with [`Driver::run`] on a thread of its own, with [`Driver::drive`] on an arbiter, or
/// with one [`Driver::iterate`] after the other. One may follow another.
///
/// When it is dropped, the loop has ended: the callbacks that are left are dropped on this thread, those that were
/// removed first and the others in the order of registration, and operations return
/// [`LoopError::Ended`](super::LoopError::Ended) (rule 14).
pub struct Driver {
    shared: Arc<Shared>,
    slow_after: Duration,
    /// What the kernel reports, and what is made of it. The room is kept from one iteration to the next.
    reported: Reported,
    ready: Vec<Ready>,
    /// How many of `ready` have had their turn.
    n_done: usize,
    discarded: VecDeque<Callback>,
    phase: Phase,
    /// The log has it that the epoll set cannot be renewed.
    told_of_renewal: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Driver {
        Driver {
            shared,
            slow_after: SLOW_AFTER,
            reported: Reported::default(),
            ready: Vec::new(),
            n_done: 0,
            discarded: VecDeque::new(),
            phase: Phase::Between,
            told_of_renewal: false,
        }
    }

    /// From when on a callback is in the log with the time for which it held the loop (rule 12). 100 ms by default.
    pub fn report_slow_after(mut self, limit: Duration) -> Driver {
        self.slow_after = limit;
        self
    }

    /// One iteration: sleeps until something is ready, at most for `wait` (`None`: for as long as it takes; rounded up to
    /// milliseconds), and dispatches it. Returns how many callbacks ran. That may be none before the time is over, since
    /// the loop also wakes up for work of its own and when another thread asks for something. After
    /// [`EventLoop::stop`](super::EventLoop::stop) it does nothing. An iteration that a cancelled [`Driver::drive`] left
    /// unfinished is finished instead.
    ///
    /// # Errors
    ///
    /// The kernel refuses to wait, which it has no reason to do.
    pub fn iterate(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        if self.phase == Phase::Between {
            let (plan, epoll) = self.prepare(wait != Some(Duration::ZERO))?;
            let wait = match plan {
                Plan::Stop => return Ok(0),
                Plan::Hurry => Some(Duration::ZERO),
                Plan::Sleep => wait,
            };
            self.reported.wait(&epoll, wait)?;
            self.begin();
        }
        Ok(self.proceed(Budget::WHOLE))
    }

    /// Runs the loop on this thread until [`EventLoop::stop`](super::EventLoop::stop).
    ///
    /// # Errors
    ///
    /// As [`Driver::iterate`].
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_stopping() {
            self.iterate(None)?;
        }
        Ok(())
    }

    /// Runs the loop on the arbiter that this is spawned on until [`EventLoop::stop`](super::EventLoop::stop), and never
    /// blocks it: the arbiter's reactor watches the loop's epoll set, in which a timerfd stands for the timers, so that
    /// they are as exact as on a thread and not rounded to the runtime's milliseconds. Callbacks run on the arbiter's
    /// thread. Its other tasks get their turn after every iteration, and within one after 64 callbacks or half a
    /// millisecond; a single callback is not interrupted.
    ///
    /// ```
    /// use postroom_actors::event_loop::{EventLoop, Interval};
    ///
    /// # actix_rt::System::new().block_on(async {
    /// let (events, mut driver) = EventLoop::new()?;
    /// let arbiter = actix_rt::Arbiter::new();
    /// // The closures are dropped on the arbiter when this future is.
    /// arbiter.spawn(async move {
    ///     if let Err(error) = driver.drive().await {
    ///         log::error!("the event loop has failed: {error}");
    ///     }
    /// });
    /// events.add_timeout(Interval::EveryIteration, { let events = events.clone(); move |_| events.stop() })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is done, it loses no event and no callback. What is left of an iteration is made
    /// up for by the next call of this or of [`Driver::iterate`]. Only the drop of the driver ends the loop.
    ///
    /// # Errors
    ///
    /// As [`Driver::iterate`]. At the first call also where the runtime has no reactor for descriptors or there is no
    /// descriptor left: it needs one.
    pub async fn drive(&mut self) -> io::Result<()> {
        let (_, epoll) = self.prepare(false)?;
        let mut watched = Watched { inner: watch(Arc::new(epoll.try_clone()?), Interest::READABLE)?, epoll };
        loop {
            if self.phase == Phase::Between {
                let (plan, epoll) = self.prepare(true)?;
                if plan == Plan::Stop {
                    return Ok(());
                }
                if !watched.follow(&epoll) {
                    tokio::time::sleep(RETRY).await;
                    self.reported.wait(&epoll, Some(Duration::ZERO))?;
                } else if plan == Plan::Sleep {
                    let mut guard = watched.inner.readable().await?;
                    self.reported.wait(&epoll, Some(Duration::ZERO))?;
                    if self.reported.is_empty() {
                        // The reactor tells of the set once; it tells again only when all of that has been taken.
                        guard.clear_ready();
                    }
                } else {
                    self.reported.wait(&epoll, Some(Duration::ZERO))?;
                }
                self.begin();
            }
            self.proceed(Budget::TURN);
            tokio::task::yield_now().await;
        }
    }

    /// Whether the loop has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.lock().as_ref().is_none_or(|state| state.stopping)
    }

    /// What to do next, and the set to wait on.
    fn prepare(&mut self, may_sleep: bool) -> io::Result<(Plan, Arc<OwnedFd>)> {
        let now = self.shared.now();
        let mut guard = self.shared.lock();
        // Only the drop of the driver ends the loop.
        let state = guard.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let plan = state.prepare(may_sleep, now)?;
        // All that is ready has to fit, or it would not be dispatched in the order of registration.
        self.reported.make_room(state.n_reportable());
        Ok((plan, state.epoll().clone()))
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("slow_after", &self.slow_after).finish_non_exhaustive()
    }
}

/// An epoll set as the arbiter's reactor watches it.
struct Watched {
    inner: AsyncFd<Arc<OwnedFd>>,
    /// Which set it is.
    epoll: Arc<OwnedFd>,
}

impl Watched {
    /// Watches this set, if it is another one. Returns whether it could: it needs a descriptor.
    fn follow(&mut self, epoll: &Arc<OwnedFd>) -> bool {
        if Arc::ptr_eq(&self.epoll, epoll) {
            return true;
        }
        match epoll.try_clone().and_then(|epoll| watch(Arc::new(epoll), Interest::READABLE)) {
            Ok(inner) => {
                *self = Watched { inner, epoll: epoll.clone() };
                true
            }
            Err(error) => {
                log::debug!("the event loop's new epoll set cannot be watched yet: {error}");
                false
            }
        }
    }
}
