//! What a run was made of, for the lines at its end: faults of each kind, outcomes by code.

use std::collections::BTreeMap;
use std::fmt;

/// Counts, by name. Each guest has its own; they are added up at its end.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub calls: u64,
    pub clients: u64,
    faults: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<String, u64>,
}

impl Tally {
    pub fn fault(&mut self, what: &'static str) {
        self.faults(what, 1);
    }

    pub fn faults(&mut self, what: &'static str, count: u64) {
        *self.faults.entry(what).or_default() += count;
    }

    pub fn outcome(&mut self, code: &str) {
        match self.outcomes.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.outcomes.insert(code.to_owned(), 1)),
        }
    }

    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.clients += other.clients;
        other.faults.into_iter().for_each(|(what, count)| self.faults(what, count));
        other.outcomes.into_iter().for_each(|(code, count)| *self.outcomes.entry(code).or_default() += count);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {} clients, {} calls", self.clients, self.calls)?;
        for (title, lines) in [
            ("faults", self.faults.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>()),
            ("outcomes", self.outcomes.iter().map(|(code, count)| format!("{code} {count}")).collect()),
        ] {
            writeln!(f, "  {title}: {}", lines.join(", "))?;
        }
        Ok(())
    }
}
