//! Who is held up when handlers block: the latency of pings and of calls that ought to get through, while there are more
//! calls that hold their threads than there are threads for them.
//!
//! All do the same: a closed loop of calls that block for [`HELD`], and a client with one call at a time beside it, alone
//! at first. Postroom runs as it is by default. With tarpc and tonic handlers run on tokio's threads, as many as there
//! are cores, unless whoever writes them hands over what blocks (`spawn_blocking`); both are measured. With libvirt it is
//! the restoring of a domain from a pipe into which nothing is written, for up to [`HELD`].
//!
//! The clients are threads of this process. A subject that fails is told as left out, and the others go on.

use std::fmt::Write;
use std::time::Duration;

use crate::case::{Case, Shape};
use crate::interleave::{Progress, START};
use crate::load::{Measured, Outcome, Plan};
use crate::machine::Machine;
use crate::measure::Settings;
use crate::output::plot::{Bar, Panel, grouped, panels};
use crate::output::table::{Point, Table};
use crate::output::{self, json, markdown};
use crate::peer::postroom::Class;
use crate::peer::{Peer, Place, libvirt, postroom, tarpc, tonic};
use crate::repeats::{Repeats, TOLD};
use crate::{Args, Failure, Result, need_postroom};

/// For how long a call holds its thread.
pub const HELD: Duration = Duration::from_millis(20);
/// The calls that block, at least; and for each core, so that they are more than all threads of any peer.
const BLOCKING: usize = 32;
const BLOCKING_FOR_EACH_CORE: usize = 8;
/// Until they hold all threads.
const WARM_UP: Duration = Duration::from_millis(300);
/// So much longer they go on than what is measured.
const AFTER: Duration = Duration::from_millis(100);
/// A server of libvirt takes its time to start, and calls that block are waited for.
const ENDS: Duration = Duration::from_millis(400);
/// Longer than elsewhere: who is held up makes few calls.
const LONGER: u32 = 4;
const PART: &str = "calls";
const ALONE: [&str; 2] = ["alone: p50, µs", "alone: p99, µs"];
const BESIDE: [&str; 2] = ["beside: p50, µs", "beside: p99, µs"];

type Client = fn(&Plan) -> Result<Outcome>;

/// A server, what blocks it, and what ought to get through all the same.
struct Subject {
    peer: &'static str,
    blocking: Client,
    probes: &'static [(&'static str, Client)],
}

const SUBJECTS: [Subject; 6] = [
    Subject {
        peer: "postroom-pool-raw",
        blocking: postroom::block,
        probes: &[
            ("Postroom: ping", postroom::ping),
            ("Postroom: inline", |plan| postroom::raw(plan, Class::Inline)),
            ("Postroom: async", |plan| postroom::raw(plan, Class::Async)),
            ("Postroom: priority", |plan| postroom::raw(plan, Class::Priority)),
            ("Postroom: pool", |plan| postroom::raw(plan, Class::Pool)),
        ],
    },
    Subject {
        peer: "tarpc-blocking",
        blocking: tarpc::block,
        probes: &[("tarpc: naive", |plan| tarpc::call(plan, tarpc::SPAWNED))],
    },
    Subject {
        peer: "tarpc-handed-over",
        blocking: tarpc::block,
        probes: &[("tarpc: handed over", |plan| tarpc::call(plan, tarpc::SPAWNED))],
    },
    Subject {
        peer: "tonic-all-cores",
        blocking: tonic::block,
        probes: &[("tonic: naive", |plan| tonic::call(plan, tonic::ALL_CORES))],
    },
    Subject {
        peer: "tonic-handed-over",
        blocking: tonic::block,
        probes: &[("tonic: handed over", |plan| tonic::call(plan, tonic::ALL_CORES))],
    },
    Subject {
        peer: "libvirt",
        blocking: libvirt::block,
        probes: &[
            // Its wire is the one whose pings Postroom's are.
            ("libvirt: ping", postroom::ping),
            ("libvirt: priority", libvirt::call),
            ("libvirt: ordinary", libvirt::ordinary),
        ],
    },
];

/// What the rows are.
const EXPLANATION: &str = "\
- Postroom, as it is by default: `ping` is answered by the reader, `inline`, `async` and `priority` are calls of procedures \
  of these classes, and `pool` is one of the class whose threads are held: it waits its turn.
- tarpc and tonic on as many threads as there are cores, each call a task: `naive` is a handler that blocks where it runs, \
  `handed over` one that gives what blocks to `spawn_blocking`, which has up to 512 threads. The call beside is another \
  procedure, which does not block.
- libvirtd, as it is by default but for the calls of a client: `priority` is `virConnectGetLibVersion`, `ordinary` is \
  `virConnectGetCapabilities`; what blocks is `virDomainRestore` from a pipe, which is opened at its other end in turns, so \
  that it takes up to that time.";

pub fn run(args: &Args) -> Result<()> {
    let settings = args.settings();
    need_postroom(&settings.postroom)?;
    let n_rounds = args.n_rounds();
    let machine = Machine::here(&settings.postroom);
    let mut left_out = Vec::new();
    let mut plan = Vec::new();
    for round in 1..=n_rounds {
        for subject in &SUBJECTS {
            let peer = Peer::by_name(subject.peer)?;
            match peer.missing() {
                None => {
                    let probes = subject.probes.iter().filter(|(name, _)| args.peers.is_match(name));
                    plan.extend(probes.map(|probe| (subject, peer, *probe, round)));
                }
                Some(missing) if round == 1 => left_out.push(format!("{}: {missing}", peer.name)),
                Some(_) => {}
            }
        }
    }
    if plan.is_empty() {
        return Err("no row has such a name".into());
    }
    let around = WARM_UP + settings.time * LONGER + AFTER + ENDS;
    let progress = Progress::begin(plan.iter().map(|_| START + settings.warm_up + settings.time + around))?;
    let mut repeats = Repeats::default();
    let mut points = Vec::new();
    let mut failed: Vec<&str> = Vec::new();
    for (subject, peer, (name, probe), round) in plan {
        progress.next(format!("{name}, round {round} of {n_rounds}"));
        if !failed.contains(&name) {
            let measure = || point(subject, peer, (name, probe), round, &settings);
            match repeats.least_disturbed(measure, |point| point.foreign_cpus) {
                Ok(least) => points.push(least.value),
                Err(error) => {
                    progress.say(format!("{name}: {error}"));
                    left_out.push(format!("{name}, from round {round} on: {error}"));
                    failed.push(name);
                }
            }
        }
        progress.done();
    }
    progress.end();

    let table = Table(&points);
    let mut text = String::from("# Isolation\n\n");
    // Writing to a string does not fail.
    let _ = markdown::machine(&mut text, &machine);
    let n_blocking = n_blocking();
    let _ = writeln!(
        text,
        "Medians of {n_rounds} rounds: one call at a time, alone, and beside {n_blocking} connections with a call each that \
         holds its thread for {HELD:?} and is followed by the next. {TOLD}\n\n{EXPLANATION}"
    );
    for line in &left_out {
        let _ = writeln!(text, "- left out: {line}");
    }
    let _ = writeln!(text, "\n{}", table.text(PART));
    print!("{text}");
    if let Some(folder) = &args.out {
        let json = json::lines(&machine, &left_out, &points)?;
        let files = [("isolation.md", text), ("isolation.json", json), ("isolation.svg", figure(table))];
        output::write(folder, &files)?;
    }
    Ok(())
}

fn n_blocking() -> usize {
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    BLOCKING.max(BLOCKING_FOR_EACH_CORE * n_cores)
}

fn point(
    subject: &Subject,
    peer: Peer,
    (name, probe): (&'static str, Client),
    round: usize,
    settings: &Settings,
) -> Result<Point> {
    let folder = tempfile::Builder::new().prefix("postroom-isolation-").tempdir()?;
    let place = Place::new(folder.path().to_owned(), false, Some(settings.postroom.clone()));
    let server = peer.launch(&place)?;
    let plan = |connections, warm_up, time| Plan {
        case: Case::Load(Shape::new(connections, 1, 32)),
        address: server.address.clone(),
        servers: server.ids(),
        warm_up,
        time,
    };
    let time = settings.time * LONGER;
    let alone = measured(probe(&plan(1, settings.warm_up, settings.time))?)?;
    // The others begin before and end after what is measured.
    let around = plan(n_blocking(), Duration::ZERO, WARM_UP + time + AFTER);
    let blocking = subject.blocking;
    let others = std::thread::spawn(move || blocking(&around));
    let beside = probe(&plan(1, WARM_UP, time));
    let held_up = others.join().map_err(|_| Failure::from("the thread of the calls that block has panicked"))?;
    let (held_up, beside) = (measured(held_up?)?, measured(beside?)?);
    let micros = |measured: &Measured, percentile| measured.latency(percentile).unwrap_or(f64::NAN);
    if micros(&held_up, 50.0) < HELD.as_secs_f64() * 1e6 / 2.0 {
        return Err("the calls that are to block do not".into());
    }
    let values = vec![
        (ALONE[0], micros(&alone, 50.0)),
        (ALONE[1], micros(&alone, 99.0)),
        (BESIDE[0], micros(&beside, 50.0)),
        (BESIDE[1], micros(&beside, 99.0)),
        ("beside: longest, µs", beside.longest),
        ("beside: calls/s", beside.calls_per_second),
        ("calls that block/s", held_up.calls_per_second),
    ];
    Ok(Point { part: PART, row: name.to_owned(), round, foreign_cpus: beside.foreign_cpus, values })
}

fn measured(outcome: Outcome) -> Result<Measured> {
    match outcome {
        Outcome::Load(measured) => Ok(measured),
        Outcome::Idle(_) => Err("memory was measured in place of calls".into()),
    }
}

/// Where others block, lengths are logarithms: what is held up is thousands of times slower.
fn figure(table: Table<'_>) -> String {
    let panel = |column: &str, title: &str, length: fn(f64) -> f64| {
        let bar = |(name, micros): (String, f64)| {
            let color = if name.starts_with("Postroom") { "#1f5fbf" } else { "#c0392b" };
            Bar { name, value: length(micros), shown: format!("{} µs", grouped(micros)), color }
        };
        Panel { title: title.to_owned(), bars: table.medians(PART, column).into_iter().map(bar).collect() }
    };
    let logarithm = |micros: f64| micros.max(1.0).log10();
    panels(&[
        panel(ALONE[1], "99th percentile of one call at a time, alone", |micros| micros),
        panel(BESIDE[0], "median while others block (lengths are logarithms)", logarithm),
        panel(BESIDE[1], "99th percentile while others block (lengths are logarithms)", logarithm),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_a_peer_and_every_row_has_a_name_of_its_own() {
        let mut names: Vec<&str> = Vec::new();
        for subject in &SUBJECTS {
            assert!(Peer::by_name(subject.peer).is_ok(), "{}", subject.peer);
            for (name, _) in subject.probes {
                assert!(!names.contains(name), "{name}");
                names.push(name);
            }
        }
    }

    #[test]
    fn the_calls_that_block_are_more_than_the_workers_of_the_service_by_default() {
        assert!(n_blocking() > ::postroom::Limits::default().max_workers);
    }
}
