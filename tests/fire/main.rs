//! Under fire: services that everything goes wrong around, and an oracle that says what they owe all the same.
//!
//! Two kinds of fire. In a *storm* many clients behave as badly as they can while handlers panic, hang and end threads,
//! workers come and go, signals arrive, descriptors run out, and the service stops in the middle of it all
//! ([`storm`], [`process`]). In the *fuzzing* one client after the other sends a stream that was made at random, or
//! lies in `corpus/` ([`fuzz`]).
//!
//! All decisions come from one seed, which is printed. These make a run longer, or the same as another:
//!
//! ```text
//! POSTROOM_SEED=7 cargo test --release --test fire -- --nocapture
//! POSTROOM_FIRE_SECONDS=3600 cargo test --release --test fire storm -- --nocapture
//! POSTROOM_FUZZ_SECONDS=600 cargo test --release --test fire fuzz -- --nocapture
//! ```
//!
//! The tests run one after the other: each looks at what the whole process uses.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

// What the integration tests have in common; not all of it is of use here.
#[allow(dead_code, unused_imports)]
#[path = "../it/support/mod.rs"]
mod support;

mod chance;
mod faults;
mod fuzz;
mod guest;
mod ledger;
mod lies;
mod line;
mod memory;
mod menu;
mod messages;
mod meter;
mod process;
mod program;
mod settings;
mod storm;
mod subscriber;
mod tally;
mod witness;
