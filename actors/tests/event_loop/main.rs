//! The event loop on real descriptors: each of its rules, libvirt's own test, and random sequences against a model.
//!
//! Most tests run the loop iteration by iteration on their own thread, so that nothing depends on time or on luck.
//! Every wait has an end; what must not happen is awaited by something that happens later.
//!
//! `POSTROOM_EVENTTEST_RUNS=1000 cargo test -p postroom-actors --test event_loop libvirts_own_cases` repeats libvirt's test 1,000
//! times instead of 20; `POSTROOM_EVENTTEST_SEED=7 cargo test -p postroom-actors --test event_loop model` begins the
//! random sequences elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod calling;
mod closing;
mod every_kind;
mod kinds;
mod lifetime;
mod misuse;
mod timing;

mod arbiter;
mod libvirt;
mod model;
mod recipients;
mod threads;
