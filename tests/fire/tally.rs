//! What a run was made of, for the lines at its end: faults of each kind, outcomes by code.

use std::collections::BTreeMap;
use std::fmt;

/// What guests do, whatever the service is, and how it ends for some of them.
const OF_GUESTS: [&str; 47] = [
    "[closed: packet_timeout]",
    "[closed: protocol]",
    "[closed: too_large]",
    "arguments that do not decode",
    "broken metadata",
    "call that nobody waits for",
    "call that panics again and again",
    "call with a status",
    "call with descriptors",
    "cancel",
    "cancelled",
    "deadline",
    "deadline_exceeded",
    "flood",
    "half-close",
    "half-close within a message",
    "half-close within a packet",
    "left replies unread for long",
    "length far over the limit",
    "length that is slightly wrong",
    "length under 28",
    "message far over the limit",
    "message over the limit",
    "message that breaks off with what is no MessagePack",
    "message that does not end",
    "message whose type means nothing",
    "MessagePack-RPC behind packets",
    "MessagePack-RPC from the first byte on",
    "notification",
    "ok",
    "overloaded",
    "packet over the limit",
    "packet that does not end",
    "packet that means nothing",
    "packets behind MessagePack-RPC",
    "panic in a blocking handler",
    "poisoned",
    "queue of slow calls",
    "response to nothing",
    "stopped reading",
    "too many descriptors",
    "unknown procedure",
    "unknown program",
    "unknown version",
    "vanished",
    "vanished within a message",
    "vanished within a packet",
];

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

    /// Fails if one of these never was, or something that guests do. To be asked after long storms only.
    #[track_caller]
    pub fn has_all(&self, others: &[&str]) {
        let is_missing = |what: &&&str| self.faults.get(**what).or(self.outcomes.get(**what)).is_none_or(|n| *n == 0);
        let missing: Vec<_> = OF_GUESTS.iter().chain(others).filter(is_missing).collect();
        assert!(missing.is_empty(), "this never was: {missing:?}, in\n{self}");
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
