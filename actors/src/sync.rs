//! The atomics of what is lock-free, by one name.
//!
//! The files that arbiters, workers and the pool meet in take their atomics from here, so that `actors/loom` can
//! compile the very same files with loom's in their place and try every order of their operations.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst, fence};
