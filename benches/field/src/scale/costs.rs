//! The same load on services that have more and more of something.

use crate::Result;
use crate::case::Shape;
use crate::embedded::{self, INLINE, Kind, POOL, PROGRAM};
use crate::load::Measured;
use crate::load::raw::{Client, Transport};
use crate::measure::Settings;
use crate::output::table::Point;
use crate::peer::Place;
use crate::peer::postroom::Packets;

const SHAPE: Shape = Shape::new(16, 16, 32);

pub fn programs(n: usize, round: usize, settings: &Settings) -> Result<Point> {
    let last = PROGRAM + n as u32 - 1;
    let inline = cost(Kind::Programs, n, (last, INLINE), settings)?;
    let pool = cost(Kind::Programs, n, (last, POOL), settings)?;
    let values = vec![
        ("inline: calls/s", inline.calls_per_second),
        ("inline: server CPU, µs a call", inline.server_cpu),
        ("pool: calls/s", pool.calls_per_second),
        ("pool: server CPU, µs a call", pool.server_cpu),
        ("server, KiB", pool.server_kib as f64),
    ];
    let foreign_cpus = inline.foreign_cpus.max(pool.foreign_cpus);
    Ok(Point { part: "programs", row: n.to_string(), round, foreign_cpus, values })
}

pub fn workers(n: usize, round: usize, settings: &Settings) -> Result<Point> {
    let measured = cost(Kind::Workers, n, (PROGRAM, POOL), settings)?;
    let values = vec![
        ("calls/s", measured.calls_per_second),
        ("p50, µs", measured.latency(50.0).unwrap_or(f64::NAN)),
        ("p99, µs", measured.latency(99.0).unwrap_or(f64::NAN)),
        ("server CPU, µs a call", measured.server_cpu),
        ("server, KiB", measured.server_kib as f64),
    ];
    Ok(Point { part: "workers", row: n.to_string(), round, foreign_cpus: measured.foreign_cpus, values })
}

fn cost(kind: Kind, n: usize, (program, procedure): (u32, i32), settings: &Settings) -> Result<Measured> {
    let folder = tempfile::Builder::new().prefix("postroom-scale-").tempdir()?;
    let place = Place::new(folder.path().to_owned(), false, None);
    let server = embedded::launch(&place, kind, n)?;
    let plan = super::clients::plan(&server, SHAPE, settings, 1);
    let wire = Packets::echoes(program, procedure, &plan.payload());
    let mut client = Client::new(&wire, Transport::Unix, &server.address)?;
    client.connect(SHAPE.connections, SHAPE.depth)?;
    client.measure(0..SHAPE.connections, &plan)
}
