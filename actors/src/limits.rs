//! The limits of a service, as one table.
//!
//! Each row gives a key, its type, its default, the range of valid values, what it means, and what happens at the
//! bound. [`Limits`] (the values), [`TABLE`] (the rows), the configuration file, `postroom config`, the texts of
//! errors and the tests all come from this table; a limit that is not here does not exist.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What a limit counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Count,
    /// Bytes; written as a number or with a unit, `"2MiB"`.
    Bytes,
    /// Time; written as whole seconds or with a unit, `"500ms"`. The table holds milliseconds.
    Duration,
}

/// What happens when a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtBound {
    /// The client waits: nothing more of it is read or started until there is room. No error.
    Hold,
    /// The call is answered with an error that names the limit.
    Answer,
    /// The connection is closed; the reason is announced where the client still reads.
    Close,
    /// Nothing is refused: the value is a size, and what exceeds it waits.
    Wait,
    /// Events are dropped, and the subscription is told how many.
    Drop,
}

/// One row of the table of limits.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key in the configuration and in errors.
    pub key: &'static str,
    /// How the value is written.
    pub unit: Unit,
    /// What happens at the bound, as a kind.
    pub at_bound: AtBound,
    /// What the limit bounds and what happens there, for people.
    pub meaning: &'static str,
    /// The smallest and the largest valid value (milliseconds for a duration).
    pub range: (u64, u64),
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

impl Row {
    /// The value of this row: a number, bytes, or milliseconds.
    pub fn get(&self, limits: &Limits) -> u64 {
        (self.get)(limits)
    }

    /// Sets the value of this row.
    ///
    /// # Errors
    ///
    /// Returns the valid range when `value` lies outside of it; `limits` is then unchanged.
    pub fn set(&self, limits: &mut Limits, value: u64) -> Result<(), RangeInclusive<u64>> {
        let (low, high) = self.range;
        if !(low..=high).contains(&value) {
            return Err(low..=high);
        }
        (self.set)(limits, value);
        Ok(())
    }
}

/// How a value of the configuration becomes a number of the table, and back.
trait Cell: Copy {
    fn to_number(self) -> u64;
    fn of_number(number: u64) -> Self;
}

impl Cell for u64 {
    fn to_number(self) -> u64 {
        self
    }
    fn of_number(number: u64) -> Self {
        number
    }
}

impl Cell for u32 {
    fn to_number(self) -> u64 {
        self.into()
    }
    fn of_number(number: u64) -> Self {
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

impl Cell for usize {
    fn to_number(self) -> u64 {
        self as u64
    }
    fn of_number(number: u64) -> Self {
        usize::try_from(number).unwrap_or(usize::MAX)
    }
}

impl Cell for Duration {
    fn to_number(self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
    fn of_number(number: u64) -> Self {
        Duration::from_millis(number)
    }
}

macro_rules! table {
    ($( $key:ident: $type:ty = $default:expr, $unit:ident, $range:expr, $at_bound:ident, $meaning:literal; )*) => {
        /// The value of every limit.
        ///
        /// The default is what the table says; see [`TABLE`] for ranges and for what happens at each bound.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Limits {
            $( #[doc = $meaning] pub $key: $type, )*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $key: $default, )* }
            }
        }

        /// Each limit, by its place in [`TABLE`].
        #[allow(non_camel_case_types, dead_code)] // The names are the keys, and not every limit is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Key { $( $key, )* }

        /// Every limit there is, in the order in which they are shown.
        pub static TABLE: &[Row] = &[
            $( Row {
                key: stringify!($key),
                unit: Unit::$unit,
                at_bound: AtBound::$at_bound,
                meaning: $meaning,
                range: $range,
                get: |limits| limits.$key.to_number(),
                set: |limits, number| limits.$key = Cell::of_number(number),
            }, )*
        ];
    };
}

const MIB: u64 = 1024 * 1024;
/// A year: a duration that stands for "practically never" and still adds to a point in time without overflow.
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

table! {
    max_clients: usize = 10_000, Count, (1, 1_000_000), Close,
        "Clients connected at once. One more is told `overloaded` and closed.";
    max_queued_clients: u32 = 1000, Count, (1, 65_535), Wait,
        "Connections that the kernel completes before the service accepts them (the listen backlog).";
    max_packet: u32 = postroom_protocol::limits::DEFAULT_MAX_PACKET, Bytes, (1024, 1024 * MIB), Answer,
        "One packet, its length word included. A longer call is answered `too_large`; its body is skipped up to 16 times the limit, beyond that the connection is closed.";
    max_client_requests: usize = 256, Count, (1, 1_000_000), Hold,
        "Calls of one client in progress, each until its reply has left. Beyond it they wait in the client's backlog.";
    max_client_backlog: usize = 256, Count, (1, 1_000_000), Hold,
        "Calls of one client that were read but may not start yet. When it is full the service stops reading that client.";
    max_client_backlog_bytes: u64 = 2 * MIB, Bytes, (1024, 1024 * MIB), Hold,
        "The same in bytes of packets.";
    max_client_output: u64 = 4 * MIB, Bytes, (1024, 1024 * MIB), Hold,
        "Unread replies of one client plus the bytes of its running calls. Beyond it nothing more of that client is read or started.";
    max_client_subscriptions: usize = 64, Count, (0, 65_536), Answer,
        "Subscriptions of one client. One more is answered `overloaded`.";
    max_event_queue: u32 = 1024, Count, (1, 1_000_000), Answer,
        "Events of one subscription that may wait for its client to read. A client that asks for more is answered `invalid_arguments`. When as many wait as it asked for, the oldest or the newest is dropped, or the client is told `overloaded` and closed, as it has chosen.";
    max_client_event_bytes: u64 = 4 * MIB, Bytes, (1024, 1024 * MIB), Drop,
        "The same for all subscriptions of one client, in bytes of events.";
    max_published_events: usize = 16_384, Count, (1, 10_000_000), Drop,
        "Events that were published and that one of the threads that write to clients has not taken yet. One more is lost to all subscriptions there.";
    max_published_bytes: u64 = 64 * MIB, Bytes, (1024, 1024 * 1024 * MIB), Drop,
        "The same in bytes of their values.";
    max_pending_calls: usize = 10_000, Count, (1, 10_000_000), Answer,
        "Calls of all clients that wait for a worker. One more is answered `overloaded`.";
    max_pending_bytes: u64 = 256 * MIB, Bytes, (1024, 1024 * 1024 * MIB), Answer,
        "The same in bytes of packets.";
    poison_after: u32 = 3, Count, (0, 1000), Answer,
        "Panics that calls of one client with the same procedure and arguments may cost. Then the call is answered `poisoned` for a minute; 0 never does.";
    stuck_after: Duration = Duration::from_secs(30), Duration, (1, YEAR_MS), Wait,
        "Time that a blocking call may run before it is named in the log and in the statistics, and its worker's place is filled, for up to `max_workers` such calls.";
    queue_target: Duration = Duration::ZERO, Duration, (0, YEAR_MS), Answer,
        "Time that calls may wait for a worker before they are shed; 0 is never. When even the shortest wait was longer for `queue_interval`, calls that have waited twice this long are answered `overloaded`.";
    queue_interval: Duration = Duration::from_millis(100), Duration, (1, YEAR_MS), Wait,
        "Time over which the wait is watched for `queue_target`: bursts that pass sooner shed nothing.";
    min_workers: usize = cores(), Count, (1, 1024), Wait,
        "Workers for blocking procedures that are always there, each on a thread of its own.";
    max_workers: usize = (4 * cores()).clamp(8, 1024), Count, (1, 1024), Wait,
        "Workers for blocking procedures at most. The pool grows when a call waits, or is expected to wait, more than 1 ms. When all are busy, calls wait.";
    prio_workers: usize = 2, Count, (0, 256), Wait,
        "Workers that take only blocking calls of priority procedures, so that these get through when all others are stuck.";
    worker_idle_timeout: Duration = Duration::from_secs(60), Duration, (1, YEAR_MS), Wait,
        "Time after which a worker beyond `min_workers` that has had nothing to do leaves.";
    async_workers: usize = 1, Count, (1, 256), Wait,
        "Threads for async procedures.";
    max_async_calls: usize = 1024, Count, (1, 1_000_000), Wait,
        "Async calls at once on each of these threads. Beyond it calls wait.";
    io_arbiters: usize = (cores() / 2).clamp(1, 4), Count, (1, 256), Wait,
        "Threads that read from and write to clients, and run inline procedures. One of them serves a million quick calls a second; more than half the cores only take them from workers and clients.";
    first_packet_timeout: Duration = Duration::from_secs(30), Duration, (1, YEAR_MS), Close,
        "Time from the connection to the end of its first packet. Later it is told `packet_timeout` and closed.";
    packet_timeout: Duration = Duration::from_secs(30), Duration, (1, YEAR_MS), Close,
        "Time from the first to the last byte of a packet. It does not run while the service holds the client. Later the client is told `packet_timeout` and closed.";
    write_timeout: Duration = Duration::from_secs(30), Duration, (1, YEAR_MS), Close,
        "Time that a client may leave replies unread without taking a byte. Then it is cut: nothing more can be told to a client that does not read.";
    idle_timeout: Duration = Duration::ZERO, Duration, (0, YEAR_MS), Close,
        "Time that a client may be connected without a call or a subscription; 0 is without end. Then it is told `idle_timeout` and closed.";
    keepalive_interval: Duration = Duration::from_secs(5), Duration, (0, YEAR_MS), Close,
        "Time without a word from a client after which it is pinged, again and again; 0 is never. Only clients that have sent a keepalive packet or called `directory.hello` are.";
    keepalive_count: u32 = 5, Count, (0, 1_000_000), Close,
        "Pings that a client may leave unanswered, where any packet is an answer. One more interval later it is told `keepalive_timeout` and closed.";
    shutdown_timeout: Duration = Duration::from_secs(30), Duration, (0, YEAR_MS), Close,
        "Time for running and waiting calls to finish when the service stops. Those that are left then are answered `shutting_down`.";
}

impl Limits {
    /// Checks every value against the range of its row.
    ///
    /// # Errors
    ///
    /// All values that are out of range, with what is allowed.
    pub fn check(&self) -> Result<(), LimitErrors> {
        let faults: Vec<String> = TABLE
            .iter()
            .map(|row| (row, row.get(self)))
            .filter(|(row, value)| !(row.range.0..=row.range.1).contains(value))
            .map(|(row, value)| format!("{} = {value}: allowed is {} to {}", row.key, row.range.0, row.range.1))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(LimitErrors(faults)) }
    }

    /// The limits as a service uses them: checked, and with what was left alone fitted to what was set.
    ///
    /// A default never makes a value invalid that the user set: of `min_workers` and `max_workers` the one that was
    /// left alone follows the other. A value that equals its default counts as left alone.
    ///
    /// # Errors
    ///
    /// All values that are out of range or contradict each other, with what is allowed.
    pub fn settled(&self) -> Result<Self, LimitErrors> {
        self.check()?;
        let mut settled = self.clone();
        if self.min_workers > self.max_workers {
            let default = Self::default();
            if self.max_workers == default.max_workers {
                settled.max_workers = self.min_workers;
            } else if self.min_workers == default.min_workers {
                settled.min_workers = self.max_workers;
            }
        }
        settled.workers().check()?;
        Ok(settled)
    }

    /// How many workers there are to be.
    pub fn workers(&self) -> Workers {
        Workers {
            min_workers: self.min_workers,
            max_workers: self.max_workers,
            prio_workers: self.prio_workers,
            async_workers: self.async_workers,
            worker_idle_timeout: self.worker_idle_timeout,
        }
    }
}

/// How many workers a service has: the limits that can be changed while it runs, see
/// [`Running::resize`](crate::Running::resize).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Workers for blocking procedures that are always there.
    pub min_workers: usize,
    /// Workers for blocking procedures at most.
    pub max_workers: usize,
    /// Workers that take only priority calls.
    pub prio_workers: usize,
    /// Threads for async procedures.
    pub async_workers: usize,
    /// Time after which an idle worker beyond `min_workers` leaves.
    pub worker_idle_timeout: Duration,
}

impl Workers {
    /// Checks each value against the range of its row, and `min_workers` against `max_workers`.
    ///
    /// # Errors
    ///
    /// All that is wrong, with what is allowed.
    pub fn check(&self) -> Result<(), LimitErrors> {
        let Self { min_workers, max_workers, prio_workers, async_workers, worker_idle_timeout } = *self;
        let limits =
            Limits { min_workers, max_workers, prio_workers, async_workers, worker_idle_timeout, ..Limits::default() };
        limits.check()?;
        if min_workers > max_workers {
            let fault = format!("min_workers = {min_workers}: allowed is 1 to max_workers = {max_workers}");
            return Err(LimitErrors(vec![fault]));
        }
        Ok(())
    }
}

/// Which limits are out of range; each line is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitErrors(Vec<String>);

impl std::fmt::Display for LimitErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for LimitErrors {}

/// The row with this key.
pub fn row(key: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.key == key)
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_in_its_range() {
        let limits = Limits::default();
        for row in TABLE {
            let value = row.get(&limits);
            assert!(row.range.0 <= value && value <= row.range.1, "{} = {value}", row.key);
        }
    }

    #[test]
    fn a_value_that_is_set_is_read_back_and_one_out_of_range_changes_nothing() {
        for row in TABLE {
            let mut limits = Limits::default();
            row.set(&mut limits, row.range.1).unwrap();
            assert_eq!(row.get(&limits), row.range.1, "{}", row.key);
            let before = limits.clone();
            assert_eq!(row.set(&mut limits, row.range.1 + 1), Err(row.range.0..=row.range.1));
            assert_eq!(limits, before);
        }
    }

    fn settled(min_workers: usize, max_workers: usize) -> Result<(usize, usize), String> {
        let limits = Limits { min_workers, max_workers, ..Limits::default() };
        limits.settled().map(|limits| (limits.min_workers, limits.max_workers)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_default_follows_the_value_that_was_set_and_contradictions_are_told() {
        let default = Limits::default();
        let above = default.max_workers + 50;
        assert_eq!(settled(above, default.max_workers), Ok((above, above)));
        assert_eq!(settled(default.min_workers, 1), Ok((default.min_workers.min(1), 1)));
        assert_eq!(settled(default.min_workers, default.max_workers), Ok((default.min_workers, default.max_workers)));
        let error = settled(1000, 999).unwrap_err();
        assert_eq!(error, "min_workers = 1000: allowed is 1 to max_workers = 999");
        assert!(settled(1, 0).unwrap_err().contains("max_workers = 0: allowed is 1 to 1024"));
    }

    #[test]
    fn keys_are_unique() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.key != row.key), "{}", row.key);
        }
    }
}
