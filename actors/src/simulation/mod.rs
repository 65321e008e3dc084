//! The service under virtual time: real decisions, no threads, no sockets, no actors, a million calls in seconds.
//!
//! Clients, their records and stages, trays, idle sets, permits, pending calls, batches, estimates, replies and the
//! growth of the pool are the service's own code. What is not plain is modelled: [`pipe`] is a socket, [`client`] its
//! other end, [`hub`] what actors and wakers do around a hub, [`workers`] threads and their supervisor. [`world`] lets
//! them act in an order that the seed decides, and [`ledger`] checks each step of each call.
//!
//! A failure prints its run and its seed; with that in `POSTROOM_SEED` each test does that one run alone.

mod client;
mod config;
mod hub;
mod ledger;
mod pipe;
mod random;
mod workers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::config::{Config, PROCEDURES};
use self::random::Random;
use self::world::{Summary, World};
use crate::limits::Limits;

/// How many runs of drawn kinds there are in the test.
const DRAWN: u64 = 400;

fn given_seed() -> Option<u64> {
    std::env::var("POSTROOM_SEED").ok().and_then(|seed| seed.parse().ok())
}

fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn run(config: Config, seed: u64) -> Summary {
    let name = config.name;
    let outcome = catch_unwind(AssertUnwindSafe(|| World::new(config, seed).run()));
    outcome.unwrap_or_else(|_| panic!("{name:?} failed with POSTROOM_SEED={seed}"))
}

/// A limit, given with another in mind.
fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Config::default().limits;
    change(&mut limits);
    limits
}

/// Runs that each look at one thing, a million calls together.
fn kinds() -> Vec<Config> {
    let mut only_slow = [0; PROCEDURES];
    only_slow[config::MIDDLE] = 1;
    vec![
        Config {
            name: "few clients with many calls",
            clients: 4,
            calls: 250_000,
            calls_each: 60_000,
            window: 300,
            ..Config::default()
        },
        Config {
            name: "many clients with few calls",
            clients: 1000,
            calls: 200_000,
            calls_each: 8,
            leavers: 20,
            ..Config::default()
        },
        Config {
            name: "slow readers and small sockets",
            calls: 60_000,
            slow_readers: 2,
            socket: 3000,
            echoes: true,
            limits: limits(|limits| limits.max_client_output = 10_000),
            ..Config::default()
        },
        Config { name: "short deadlines", calls: 100_000, deadlines: (2, 5), window: 60, ..Config::default() },
        Config { name: "cancels", calls: 100_000, cancels: 4, window: 60, ..Config::default() },
        Config { name: "keys", calls: 80_000, keys: (2, 3), cancels: 15, deadlines: (20, 10), ..Config::default() },
        Config {
            name: "clients that leave, end their input and die",
            calls: 80_000,
            clients: 100,
            calls_each: 60,
            leavers: 3,
            half_closes: 2,
            dead: 10,
            socket: 2000,
            deadlines: (20, 20),
            ..Config::default()
        },
        Config {
            name: "held clients",
            calls: 50_000,
            window: 200,
            keepalive: 1,
            slow_readers: 4,
            limits: limits(|limits| {
                (limits.max_client_requests, limits.max_client_backlog) = (4, 4);
                limits.keepalive_interval = Duration::from_millis(300);
            }),
            ..Config::default()
        },
        Config {
            name: "workers that come and go",
            calls: 100_000,
            resizes: 500,
            deaths: 300,
            window: 40,
            ..Config::default()
        },
        Config {
            name: "turns",
            calls: 20_000,
            clients: 20,
            weights: only_slow,
            window: 50,
            preempted: 0,
            liars: 0,
            keepalive: 0,
            fair: true,
            limits: limits(|limits| limits.max_workers = 4),
            ..Config::default()
        },
        Config {
            name: "tiny limits of the pool",
            calls: 40_000,
            window: 3,
            limits: limits(|limits| (limits.max_pending_calls, limits.max_async_calls) = (60, 4)),
            ..Config::default()
        },
    ]
}

#[test]
fn a_million_calls_are_each_answered_once_within_all_bounds() {
    let seed = given_seed().unwrap_or_else(new_seed);
    let (mut calls, start) = (0, Instant::now());
    for config in kinds() {
        let (name, begin) = (config.name, Instant::now());
        let summary = run(config, seed);
        calls += summary.calls;
        println!("{name}: {:?}: {summary}", begin.elapsed());
    }
    let time = start.elapsed();
    println!("{calls} calls in {time:?}, {:.0} calls/s", calls as f64 / time.as_secs_f64());
    assert!(calls > 1_000_000, "{calls}");
}

#[test]
fn whatever_a_service_and_its_clients_are_like_every_call_is_answered_once() {
    let start = new_seed();
    let seeds = given_seed().map_or(start..start + DRAWN, |seed| seed..seed + 1);
    let (mut calls, begin) = (0, Instant::now());
    for seed in seeds {
        calls += run(Config::drawn(&mut Random::new(!seed)), seed).calls;
    }
    println!("{calls} calls in {:?}", begin.elapsed());
}
