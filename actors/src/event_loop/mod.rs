//! The event loop: watches descriptors and timers, and runs what was asked for when they are ready.
//!
//! Its interface is libvirt's, in Rust: six operations, on a handle that can be cloned, sent and shared, from any thread
//! and from inside any callback. The loop itself is a [`Driver`], which one thread runs, blocking or on an arbiter.
//!
//! ```
//! use std::os::fd::AsRawFd;
//! use std::time::Duration;
//!
//! use postroom_actors::event_loop::{EventLoop, Events, Interval};
//!
//! let (events, mut driver) = EventLoop::new()?;
//! let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
//! let watch = events.add_handle(ours.as_raw_fd(), Events::READABLE, |event| println!("{:?}", event.events))?;
//! let stop = events.clone();
//! events.add_timeout(Interval::Every(Duration::from_millis(10)), move |_| stop.stop())?;
//!
//! drop(theirs);
//! assert_eq!(driver.iterate(None)?, 1); // The other side hung up.
//! events.remove_handle(watch)?;
//! driver.run()?; // Until the timer stops it.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rules
//!
//! 1. A mask that is not empty also reports errors and hang-ups. One call per dispatch, with all that is pending.
//! 2. Level triggered: who does not drain a descriptor is called again in the next iteration.
//! 3. What is ready in one iteration runs in the order of registration, handles and timers alike. A watch whose mask was
//!    changed and a timer that was updated go to the end.
//! 4. What is removed before its turn is not called, what is updated is skipped and polled anew, and what is added is
//!    not called before the next iteration.
//! 5. A callback may remove itself.
//! 6. A removed callback is dropped once, later, on the loop's thread, with no lock held, never while it runs, and by
//!    the end of the iteration however busy the timers are. Removal from another thread returns at once; when the
//!    callback is dropped, all is quiet.
//! 7. A timer's next expiry counts from its dispatch; after a stall it fires once.
//! 8. An operation from another thread wakes the loop if there is something for it to do.
//! 9. A descriptor that is closed under its watch is found within a second, or by the next operation on it: every
//!    watch of it is told [`Events::ERROR`] once, and is disabled: its mask is then
//!    [`Events::NONE`]. A number that was closed and used again cannot be told apart: the watch goes on with what is
//!    now open there, as with poll(2).
//! 10. What cannot be polled, such as a regular file, is always ready, as with poll(2).
//! 11. A callback that panics loses its own watch, and the log says which.
//! 12. A callback that holds the loop longer than 100 ms, or what [`Driver::report_slow_after`] says, is in the log.
//! 13. A descriptor may have any number of watches. The kernel knows it once, with the joined mask.
//! 14. When the driver is gone, so are the callbacks, dropped on its thread, and operations return [`LoopError::Ended`].
//! 15. Ten watches or 100,000: lookup, update and removal cost the same.
//!
//! # Layout
//!
//! - `handle`: the six operations, and what they share with the driver. `driver`: the loop.
//! - `state`: what is under the one lock: the `registry` of watches and the `poller` that the loop sleeps on, kept in
//!   step. Every state is changed under that lock and nothing here is lock-free; nobody's code runs with it held.
//! - `descriptors`, `timers`, `sweep`, `arena`: plain data, with time as an argument.
//! - `events`, `id`, `interval`, `message`, `error`: the words of the interface.
//!
//! # Bounds
//!
//! What the loop keeps is one entry per watch, one per descriptor, one heap entry per armed timer, and callbacks that
//! were removed since the last iteration; the room that these took at their highest number is kept. What an iteration
//! collects is at most one entry per watch. An actor has at most one [`Delivery`] per watch in its mailbox. The lock is
//! held for one operation, for the sorting of what is ready in an iteration, or for one step of the sweep: 512
//! descriptors, a few hundred nanoseconds each. Only where a file stays open whose watched number was closed, all of them
//! are told to a new epoll set at once.

mod driver;
mod handle;
mod poller;
mod registry;
mod state;

mod arena;
mod descriptors;
mod sweep;
mod timers;

mod error;
mod events;
mod id;
mod interval;
mod message;

pub use driver::Driver;
pub use error::LoopError;
pub use events::Events;
pub use handle::EventLoop;
pub use id::{HandleId, TimerId};
pub use interval::Interval;
pub use message::{Delivery, HandleEvent, TimerEvent};
