//! The parts that a call comes by, each alone on one thread: what is timed by `benches/parts.rs`, and counted by
//! `bin/parts.rs`.
//!
//! A [`Part`] is a body that is run in rounds; what a round needs before and leaves behind is not measured.
//!
//! - [`protocol`]: splitter, headers, MessagePack, the framing of replies.
//! - [`rounds`]: what the threads of a service do for calls, each thread's part for itself.
//! - [`echo`]: the program that is called.
//! - [`allocations`]: an allocator that counts.

pub mod allocations;
pub mod echo;
pub mod protocol;
pub mod rounds;

use std::fmt;

/// One part of a call's way.
#[derive(Clone, Copy)]
pub struct Part {
    pub name: &'static str,
    /// How many calls, packets or values a round is for.
    pub units: u32,
    pub body: fn() -> Box<dyn Body>,
}

/// What is measured of a part.
pub trait Body {
    /// What a round needs.
    fn before(&mut self) {}

    /// What is measured.
    fn run(&mut self);

    /// What a round leaves behind. Whether all of it happened in `run` that was to happen there.
    fn after(&mut self) -> bool {
        true
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All parts, in the order in which a call comes by.
pub fn all() -> impl Iterator<Item = Part> {
    protocol::PARTS.into_iter().chain(rounds::PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_name_of_its_own_and_does_in_its_rounds_what_it_says() {
        let mut names = std::collections::BTreeSet::new();
        for part in all() {
            assert!(names.insert(part.name), "{part}");
            let mut body = (part.body)();
            // The first rounds measure how long the procedure takes. Others may use this machine, so one of many will do.
            let rounds = (0..100).map(|_| {
                body.before();
                body.run();
                body.after()
            });
            assert!(rounds.filter(|is_right| *is_right).count() > 0, "{part}");
        }
    }
}
