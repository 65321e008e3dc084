//! Who used the processors: the server, this process, or others. Read from `/proc`, whose clock ticks every 10 ms.

use std::fs::read_to_string;
use std::time::Instant;

use rustix::param::clock_ticks_per_second;

use crate::Result;

/// The seconds of processor time that had been used at one moment.
pub struct Snapshot {
    at: Instant,
    server: f64,
    own: f64,
    machine: f64,
}

/// The seconds of processor time between two moments, and those that passed.
pub struct Usage {
    pub seconds: f64,
    pub server: f64,
    pub foreign: f64,
}

impl Snapshot {
    pub fn take(server: u32) -> Result<Self> {
        let machine = machine()?;
        Ok(Self { at: Instant::now(), server: process(server)?, own: process(std::process::id())?, machine })
    }

    pub fn since(&self, before: &Snapshot) -> Usage {
        let server = self.server - before.server;
        let foreign = self.machine - before.machine - server - (self.own - before.own);
        Usage { seconds: (self.at - before.at).as_secs_f64(), server, foreign }
    }
}

/// User and system time, the 14th and 15th field. The second one is a name, in which anything may stand.
fn process(id: u32) -> Result<f64> {
    let stat = read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc has an unknown form")?;
    sum(&fields.split_whitespace().collect::<Vec<_>>(), &[11, 12])
}

/// All but idle time: user, nice, system, interrupts, and what other virtual machines took.
fn machine() -> Result<f64> {
    let stat = read_to_string("/proc/stat")?;
    let line = stat.lines().next().ok_or("/proc/stat is empty")?;
    sum(&line.split_whitespace().skip(1).collect::<Vec<_>>(), &[0, 1, 2, 5, 6, 7])
}

fn sum(fields: &[&str], wanted: &[usize]) -> Result<f64> {
    let mut ticks = 0;
    for at in wanted {
        ticks += fields.get(*at).ok_or("/proc has an unknown form")?.parse::<u64>()?;
    }
    Ok(ticks as f64 / clock_ticks_per_second() as f64)
}
