//! Many clients, few of which have anything to say.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::case::{Case, Shape};
use crate::load::Plan;
use crate::load::raw::{Client, Transport};
use crate::measure::Settings;
use crate::output::table::Point;
use crate::peer::postroom::{self, Class, PING, Packets};
use crate::peer::{Place, Server};
use crate::usage::resident;

const ACTIVE: usize = 100;
/// Longer than the interval of the keepalive, so that what it costs is part of what is measured.
pub const LONGER: u32 = 12;
/// What the service has to allocate once is allocated by so many calls of one client.
const WARM_UP: usize = 200;
const PERIOD: Duration = Duration::from_millis(200);

pub fn point(n: usize, round: usize, settings: &Settings) -> Result<Point> {
    let folder = tempfile::Builder::new().prefix("postroom-scale-").tempdir()?;
    let place = Place::new(folder.path().to_owned(), false, Some(settings.postroom.clone()));
    let server = postroom::launch(&place)?;
    let n_active = n.min(ACTIVE + 1) - 1;
    let plan = plan(&server, Shape::new(n_active, 1, 32), settings, LONGER);
    let wire = Packets::new(Class::Pool, &plan.payload());

    let mut first = Client::new(&wire, Transport::Unix, &server.address)?;
    first.connect(1, 1)?;
    for _ in 0..WARM_UP {
        first.call_each(0..1)?;
    }
    let mut client = Client::new(&wire, Transport::Unix, &server.address)?;
    let before = at_rest(&server)?;
    let began = Instant::now();
    // One more is connected already, and it may not be more than the service takes.
    let n_more = n - 1;
    for number in 0..n_more {
        client.connect(1, 1)?;
        client.call(number..number + 1)?;
    }
    client.await_replies(n_more)?;
    let accepted = began.elapsed();
    let after = at_rest(&server)?;
    // From its first ping on, a client that is silent is pinged.
    for number in n_active..n_more {
        client.say(number, &PING)?;
    }
    let measured = client.measure(0..n_active, &plan)?;
    let values = vec![
        ("accepted in, ms", accepted.as_secs_f64() * 1e3),
        ("KiB a client", (after as f64 - before as f64) / n_more as f64),
        ("calls/s", measured.calls_per_second),
        ("p50, µs", measured.latency(50.0).unwrap_or(f64::NAN)),
        ("p99, µs", measured.latency(99.0).unwrap_or(f64::NAN)),
        ("p99.9, µs", measured.latency(99.9).unwrap_or(f64::NAN)),
        ("server CPU, µs a call", measured.server_cpu),
    ];
    Ok(Point { part: "clients", row: n.to_string(), round, foreign_cpus: measured.foreign_cpus, values })
}

pub fn plan(server: &Server, shape: Shape, settings: &Settings, longer: u32) -> Plan {
    Plan {
        case: Case::Load(shape),
        address: server.address.clone(),
        servers: server.ids(),
        warm_up: settings.warm_up,
        time: settings.time * longer,
    }
}

/// The memory once it has come to rest.
fn at_rest(server: &Server) -> Result<u64> {
    let mut last = 0;
    for _ in 0..20 {
        sleep(PERIOD);
        let now = resident(&server.ids())?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}
