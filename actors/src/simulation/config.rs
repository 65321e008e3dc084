//! What a simulated service and its clients are like: one value for each thing that can differ.

use std::time::Duration;

use super::random::Random;
use crate::limits::Limits;
use crate::program::{Class, Procedure, Program};

/// The procedures, by their number in the program, which has number 1 and version 1.
pub(super) const QUICK: usize = 0;
pub(super) const MIDDLE: usize = 1;
pub(super) const SLOW: usize = 2;
pub(super) const PRIORITY: usize = 3;
pub(super) const TO_END: usize = 4;
pub(super) const ASYNC: usize = 5;
pub(super) const INLINE: usize = 6;
pub(super) const PROCEDURES: usize = 7;

/// A run. "once in 0" is never.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) name: &'static str,
    /// Calls of all clients together, about.
    pub(super) calls: u64,
    /// Clients at once, and the calls that each of them makes.
    pub(super) clients: u64,
    pub(super) calls_each: u64,
    pub(super) hubs: usize,
    pub(super) limits: Limits,
    pub(super) cores: usize,
    /// Calls that a client has under way at most.
    pub(super) window: u64,
    /// How often each procedure is called.
    pub(super) weights: [u64; PROCEDURES],
    /// The longest payload, and how often and how long big ones are.
    pub(super) payload: u64,
    pub(super) big: (u64, u64),
    /// Whether replies are as long as their calls at most.
    pub(super) echoes: bool,
    /// Bytes that the socket holds in each direction.
    pub(super) socket: usize,
    /// How often a client reads slowly.
    pub(super) slow_readers: u64,
    /// How often a call has a key, and how many keys there are.
    pub(super) keys: (u64, u64),
    /// How often a call has a deadline, and the longest in milliseconds.
    pub(super) deadlines: (u64, u64),
    /// How often a call is followed by a cancel packet for this or another.
    pub(super) cancels: u64,
    /// How often a client leaves without a word, ends its input with calls under way, or falls silent.
    pub(super) leavers: u64,
    pub(super) half_closes: u64,
    pub(super) dead: u64,
    /// How often a client takes part in keepalive.
    pub(super) keepalive: u64,
    /// How often another packet goes between the calls: a ping, an unknown procedure, a packet that means nothing.
    pub(super) strays: u64,
    /// How often a quick call takes milliseconds, and a thread is not scheduled for as long.
    pub(super) liars: u64,
    pub(super) preempted: u64,
    /// How often a worker ends with a call that it was about to run.
    pub(super) deaths: u64,
    /// How often, in calls, the numbers of workers change.
    pub(super) resizes: u64,
    /// After so many calls the service stops; 0 is never.
    pub(super) drain_after: u64,
    /// How long a client waits between two bursts of calls.
    pub(super) think: Duration,
    /// Whether turns between clients are counted: for slow calls of like length that nobody ends.
    pub(super) fair: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "",
            calls: 0,
            clients: 50,
            calls_each: 1000,
            hubs: 2,
            limits: Limits { min_workers: 2, max_workers: 8, prio_workers: 1, ..Limits::default() },
            cores: 2,
            window: 20,
            weights: [80, 6, 1, 4, 3, 4, 2],
            payload: 64,
            big: (500, 30_000),
            echoes: false,
            socket: 64 * 1024,
            slow_readers: 0,
            keys: (0, 1),
            deadlines: (0, 1),
            cancels: 0,
            leavers: 0,
            half_closes: 3,
            dead: 0,
            keepalive: 3,
            strays: 200,
            liars: 2000,
            preempted: 5000,
            deaths: 0,
            resizes: 0,
            drain_after: 0,
            think: Duration::from_micros(200),
            fair: false,
        }
    }
}

impl Config {
    /// A small run of its own kind: every value is drawn, most of them tight.
    pub(super) fn drawn(random: &mut Random) -> Self {
        let mut often = |most: u64| if random.once_in(2) { 0 } else { random.between(2, most) };
        let (leavers, half_closes, dead, cancels, strays) = (often(6), often(4), often(12), often(40), often(30));
        let (keepalive, slow_readers, liars, preempted, deaths) =
            (often(3), often(5), often(50), often(200), often(200));
        let (resizes, key, deadline, drain) = (often(200), often(4), often(6), often(1500));
        let min_workers = random.between(1, 3) as usize;
        let max_workers = min_workers + random.below(4) as usize;
        let tight = |random: &mut Random, default: u64, low: u64, high: u64| {
            if random.once_in(3) { default } else { random.between(low, high) }
        };
        let default = Limits::default();
        let limits = Limits {
            max_packet: 40_000,
            max_client_requests: tight(random, 256, 1, 6) as usize,
            max_client_backlog: tight(random, 256, 1, 6) as usize,
            max_client_backlog_bytes: tight(random, 2 << 20, 1024, 4096),
            max_client_output: tight(random, 4 << 20, 1024, 8192),
            max_pending_calls: tight(random, 10_000, 1, 40) as usize,
            max_pending_bytes: tight(random, 256 << 20, 1024, 8192),
            min_workers,
            max_workers,
            prio_workers: random.below(3) as usize,
            async_workers: random.between(1, 2) as usize,
            max_async_calls: tight(random, 1024, 1, 5) as usize,
            worker_idle_timeout: Duration::from_millis(random.between(1, 100)),
            write_timeout: Duration::from_secs(random.between(5, 30)),
            keepalive_interval: Duration::from_millis(random.between(200, 5000)),
            ..default
        };
        let mut weights = [0; PROCEDURES];
        weights.iter_mut().for_each(|weight| *weight = random.below(10));
        weights[QUICK] += 1;
        let calls = random.between(500, 2000);
        Self {
            name: "drawn",
            calls,
            clients: random.between(1, 30),
            calls_each: random.between(1, 200),
            hubs: random.between(1, 3) as usize,
            limits,
            cores: random.between(1, 4) as usize,
            window: random.between(1, 60),
            weights,
            payload: random.between(1, 300),
            big: (random.between(10, 200), random.between(1000, 39_000)),
            echoes: random.once_in(2),
            socket: random.between(100, 70_000) as usize,
            slow_readers,
            keys: (key, random.between(1, 3)),
            deadlines: (deadline, random.between(1, 30)),
            cancels,
            leavers,
            half_closes,
            dead,
            keepalive,
            strays,
            liars,
            preempted,
            deaths,
            resizes,
            drain_after: drain,
            think: Duration::from_micros(random.between(1, 20_000)),
            fair: false,
        }
    }

    pub(super) fn program() -> Program {
        let mut program = Program::new("simulated", 1, 1);
        for number in 0..PROCEDURES {
            program.procedures.push(Procedure {
                number: number as i32 + 1,
                name: format!("p{number}"),
                class: match number {
                    ASYNC => Class::Asynchronous,
                    INLINE => Class::Inline,
                    _ => Class::Blocking,
                },
                priority: number == PRIORITY,
                runs_to_end: number == TO_END,
                schemas: None,
                group: 0,
                run: 0,
            });
        }
        program
    }

    /// How long a call of this procedure runs.
    pub(super) fn runs(&self, procedure: usize, random: &mut Random) -> Duration {
        let time = match procedure {
            _ if self.fair => Duration::from_micros(200),
            QUICK if random.once_in(self.liars) => Duration::from_millis(random.between(1, 20)),
            QUICK | INLINE => Duration::from_nanos(random.between(200, 800)),
            MIDDLE | TO_END => Duration::from_nanos(random.between(20_000, 900_000)),
            SLOW => Duration::from_nanos(random.between(1_000_000, 20_000_000)),
            PRIORITY => Duration::from_nanos(random.between(300, 3000)),
            _ => Duration::from_nanos(random.between(0, 10_000_000)),
        };
        time + if random.once_in(self.preempted) {
            Duration::from_micros(random.between(100, 6000))
        } else {
            Duration::ZERO
        }
    }
}
