//! Postroom's event loop as libvirt's own.
//!
//! A program that wants domain events, keepalive or streams of libvirt has to give it an event loop. With this crate
//! that is the [`EventLoop`] that the rest of the program uses too:
//!
//! ```
//! use postroom_libvirt::event_loop::EventLoop;
//!
//! let (events, mut driver) = EventLoop::new()?;
//! postroom_libvirt::register(&events)?; // Before the first connection.
//! let thread = std::thread::spawn(move || driver.run());
//!
//! let connection = virt::connect::Connect::open(Some("test:///default"))?;
//! println!("{} domains", connection.num_of_domains()?);
//!
//! drop(connection); // Connections end before the loop does.
//! events.stop();
//! thread.join().expect("the loop does not panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rules
//!
//! 1. [`register`] comes before the first connection and before other threads use libvirt: libvirt keeps its six
//!    functions in plain variables that it reads without a lock.
//! 2. A registration is for the whole process and for good, because libvirt's is. This is the only state of Postroom
//!    that is. Whoever registers second gets an error: [`RegisterError::AlreadyRegistered`], or
//!    [`RegisterError::Occupied`] where libvirt already has an implementation that is not this one.
//! 3. libvirt's callbacks run on the loop's thread. They may call libvirt, but what they wait for holds up the loop.
//! 4. The free callback of a watch or timer runs exactly once, on the loop's thread, later: never inside the callback,
//!    and never inside the removal, which libvirt calls with its own locks held. What was refused (-1) is not freed; it
//!    stays its caller's.
//! 5. A loop that nobody runs delivers nothing. When its driver is dropped, every free callback that is left runs on
//!    that thread, and from then on libvirt is told -1 by every function that can say so. Close connections before.
//! 6. A descriptor that is not open, or a callback that is missing, is refused with -1. Bits of a mask that mean
//!    nothing are ignored, as by libvirt's own loop.
//!
//! `virt` 0.5 mishandles a refusal: its `event::event_add_handle` and `event_add_timeout` free their caller's `opaque`
//! as if it were their own. Do not call them when the loop may have ended, or for a descriptor that may be closed.
//!
//! # Layout
//!
//! - `registration`: [`register`], and the one variable that holds the loop.
//! - `functions`: the six functions that libvirt calls.
//! - `lent`: who frees what libvirt handed over with a callback, and when.

mod error;
mod functions;
mod lent;
mod registration;

pub use error::RegisterError;
pub use postroom_actors::event_loop;
pub use registration::{Registration, register};

#[allow(unused_imports)] // For the documentation.
use event_loop::EventLoop;
