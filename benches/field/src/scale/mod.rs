//! How cost grows: with clients, programs, workers, and calls that wait.
//!
//! `clients` asks the ready service, the others one inside this program. The client is this process.

mod clients;
mod costs;
mod pending;

use std::fmt::Write;
use std::time::Duration;

use crate::interleave::{Progress, START};
use crate::machine::Machine;
use crate::measure::Settings;
use crate::output::plot::{Bar, Panel, grouped, panels};
use crate::output::table::{Point, Table};
use crate::output::{self, json, markdown};
use crate::repeats::{Repeats, TOLD};
use crate::{Args, Result, need_postroom};

const CLIENTS: [usize; 4] = [10, 100, 1000, 10_000];
const PROGRAMS: [usize; 4] = [1, 10, 100, 1000];
const WORKERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const PENDING: [usize; 7] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];

/// What it takes until the memory is at rest twice, and what clients and calls that wait take.
const AT_REST: Duration = Duration::from_secs(1);
const EACH_CLIENT: Duration = Duration::from_micros(100);
const EACH_PENDING: Duration = Duration::from_micros(6);

/// The parts, in the order in which they are told, and what each says.
const PARTS: [(&str, &str); 4] = [
    (
        "clients",
        "So many clients are connected and kept alive by pings; 100 of them, or all but one where there are no more, make one call \
         at a time through the pool. `accepted in` is the time from the first connection until each has had a call answered.",
    ),
    ("programs", "So many programs are served, and the last one is called at 16×16."),
    ("workers", "So many workers there are, whether they have anything to do or not; 16×16."),
    (
        "pending calls",
        "The one worker is held, so many calls are sent, then it is released. `queued` is until all wait, `answered` from \
         the release until all replies are there. Three calls more, those that hold and release, are part of it.",
    ),
];

pub fn run(args: &Args) -> Result<()> {
    let settings = args.settings();
    need_postroom(&settings.postroom)?;
    let n_rounds = args.n_rounds();
    let machine = Machine::here(&settings.postroom);
    let (n_clients, n_pending) = if args.quick { (3, 5) } else { (CLIENTS.len(), PENDING.len()) };
    let mut plan = Vec::new();
    for round in 1..=n_rounds {
        plan.extend(CLIENTS[..n_clients].iter().map(|n| ("clients", *n, round)));
        plan.extend(PROGRAMS.iter().map(|n| ("programs", *n, round)));
        plan.extend(WORKERS.iter().map(|n| ("workers", *n, round)));
        plan.extend(PENDING[..n_pending].iter().map(|n| ("pending calls", *n, round)));
    }
    let progress = Progress::begin(plan.iter().map(|(part, n, _)| time(part, *n, &settings)))?;
    let mut repeats = Repeats::default();
    let mut points = Vec::new();
    for (part, n, round) in plan {
        progress.next(format!("{n} {part}, round {round} of {n_rounds}"));
        let least = repeats.least_disturbed(|| point(part, n, round, &settings), |point| point.foreign_cpus);
        points.push(least.map_err(|error| format!("{n} {part}: {error}"))?.value);
        progress.done();
    }
    progress.end();

    let table = Table(&points);
    let mut text = String::from("# Scale\n\n");
    // Writing to a string does not fail.
    let _ = markdown::machine(&mut text, &machine);
    let _ = writeln!(text, "Medians of {n_rounds} rounds. {TOLD}");
    for (part, explanation) in PARTS {
        let _ = writeln!(text, "\n## {part}\n\n{explanation}\n\n{}", table.text(part));
    }
    print!("{text}");
    if let Some(folder) = &args.out {
        let json = json::lines(&machine, &[], &points)?;
        output::write(folder, &[("scale.md", text), ("scale.json", json), ("scale.svg", figure(table))])?;
    }
    Ok(())
}

fn point(part: &'static str, n: usize, round: usize, settings: &Settings) -> Result<Point> {
    match part {
        "clients" => clients::point(n, round, settings),
        "programs" => costs::programs(n, round, settings),
        "workers" => costs::workers(n, round, settings),
        _ => pending::point(n, round, settings),
    }
}

/// About how long one takes.
fn time(part: &str, n: usize, settings: &Settings) -> Duration {
    let Settings { warm_up, time, .. } = settings;
    match part {
        "clients" => START + AT_REST + *warm_up + *time * clients::LONGER + EACH_CLIENT * n as u32,
        "programs" => (START + *warm_up + *time) * 2,
        "workers" => START + *warm_up + *time,
        _ => START + *time + EACH_PENDING * n as u32,
    }
}

/// What a call costs the service, by how many there are of each.
fn figure(table: Table<'_>) -> String {
    let shown = [
        ("clients", "server CPU, µs a call"),
        ("clients", "KiB a client"),
        ("clients", "p99, µs"),
        ("programs", "inline: server CPU, µs a call"),
        ("programs", "pool: server CPU, µs a call"),
        ("workers", "server CPU, µs a call"),
        ("pending calls", "server CPU to queue, µs a call"),
        ("pending calls", "server CPU to answer, µs a call"),
    ];
    let panel = |(part, value): (&str, &str)| {
        let bar = |(name, value): (String, f64)| Bar { name, value, shown: grouped(value), color: "#1f5fbf" };
        Panel { title: format!("{part}: {value}"), bars: table.medians(part, value).into_iter().map(bar).collect() }
    };
    panels(&shown.map(panel))
}
