//! Calls that wait for a worker, more and more of them: what it costs to queue one, and to answer it.
//!
//! Control is on connections of its own. That all calls wait is known by an inline call behind them on each connection: a
//! reader takes packets in order, and its reply says that the calls before it have been handed on.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::Result;
use crate::embedded::{self, HOLD, INLINE, Kind, POOL, PROGRAM, RELEASE};
use crate::load::raw;
use crate::load::raw::{Client, Input, Transport, Wire};
use crate::measure::Settings;
use crate::output::table::Point;
use crate::peer::Place;
use crate::peer::postroom::Packets;
use crate::usage::{Snapshot, Usage};

const CONNECTIONS: usize = 16;
/// The number of calls that are said, not made by a slot.
const SAID: u32 = u32::MAX;
/// However long it takes, it ends.
const N_TURNS: usize = 100_000;

pub fn point(n: usize, round: usize, settings: &Settings) -> Result<Point> {
    let folder = tempfile::Builder::new().prefix("postroom-scale-").tempdir()?;
    let place = Place::new(folder.path().to_owned(), false, None);
    let server = embedded::launch(&place, Kind::Pending, n)?;
    let servers = server.ids();
    let n_connections = n.min(CONNECTIONS);
    let depth = n / n_connections;
    let n_calls = n_connections * depth;

    let wire = Waiting { calls: packets(POOL), n_answers: Cell::new(0) };
    let said = |procedure| {
        let packets = packets(procedure);
        let mut packet = packets.request(0);
        packets.number(&mut packet, SAID);
        packet
    };
    let (hold, release, barrier) = (said(HOLD), said(RELEASE), said(INLINE));
    let mut client = Client::new(&wire, Transport::Unix, &server.address)?;
    client.connect(n_connections, depth)?;
    let control = n_connections;
    client.connect(1, 1)?;

    let (mut queued, mut answered) = (Cost::default(), Cost::default());
    let began = Instant::now();
    for turn in 0..N_TURNS {
        client.say(control, &hold)?;
        client.say(control, &barrier)?;
        await_answers(&mut client, &wire, 1)?;

        let before = Snapshot::take(&servers)?;
        client.call(0..n_connections)?;
        client.await_written()?;
        for number in 0..n_connections {
            client.say(number, &barrier)?;
        }
        await_answers(&mut client, &wire, n_connections)?;
        let full = Snapshot::take(&servers)?;
        client.say(control, &release)?;
        client.await_replies((turn + 1) * n_calls)?;
        // Those of the call that held the worker and of the one that released it.
        await_answers(&mut client, &wire, 2)?;
        let empty = Snapshot::take(&servers)?;
        queued.add(&full.since(&before));
        answered.add(&empty.since(&full));
        if began.elapsed() > settings.time.max(Duration::from_millis(1)) {
            break;
        }
    }
    let (queued, answered) = (queued.each(n_calls), answered.each(n_calls));
    let values = vec![
        ("queued, µs a call", queued.seconds),
        ("answered, µs a call", answered.seconds),
        ("server CPU to queue, µs a call", queued.server),
        ("server CPU to answer, µs a call", answered.server),
    ];
    let foreign_cpus = queued.foreign.max(answered.foreign);
    Ok(Point { part: "pending calls", row: n.to_string(), round, foreign_cpus, values })
}

fn packets(procedure: i32) -> Packets {
    Packets::echoes(PROGRAM, procedure, &[b'x'; 32])
}

fn await_answers(client: &mut Client<'_, Waiting>, wire: &Waiting, n_answers: usize) -> Result<()> {
    while wire.n_answers.get() < n_answers {
        client.turn()?;
    }
    wire.n_answers.set(wire.n_answers.get() - n_answers);
    Ok(())
}

/// Calls by slots, and others that are said, whose answers are counted.
struct Waiting {
    calls: Packets,
    n_answers: Cell<usize>,
}

impl Wire for Waiting {
    fn request(&self, connection: usize) -> Vec<u8> {
        self.calls.request(connection)
    }

    fn number(&self, request: &mut [u8], serial: u32) {
        self.calls.number(request, serial);
    }

    fn input(&self, input: &[u8]) -> Result<Option<Input>> {
        let found = self.calls.input(input)?;
        Ok(found.map(|mut found| {
            if matches!(found.kind, raw::Kind::Reply(SAID)) {
                self.n_answers.set(self.n_answers.get() + 1);
                found.kind = raw::Kind::Other;
            }
            found
        }))
    }
}

/// Over all turns.
#[derive(Default)]
struct Cost {
    n_turns: usize,
    seconds: f64,
    server: f64,
    foreign: f64,
}

impl Cost {
    fn add(&mut self, usage: &Usage) {
        self.n_turns += 1;
        self.seconds += usage.seconds;
        self.server += usage.servers;
        self.foreign += usage.foreign;
    }

    /// In microseconds for each call; others' processors remain what they are.
    fn each(&self, n_calls: usize) -> Cost {
        let n_calls = (self.n_turns * n_calls) as f64;
        Cost {
            n_turns: self.n_turns,
            seconds: self.seconds * 1e6 / n_calls,
            server: self.server * 1e6 / n_calls,
            foreign: (self.foreign / self.seconds).max(0.0),
        }
    }
}
