//! Who used the processors, and how much memory: servers, this process, or others. Read from `/proc`, whose clock ticks
//! every 10 ms.

use std::fs::read_to_string;
use std::time::Instant;

use rustix::param::clock_ticks_per_second;

use crate::Result;

/// The seconds of processor time that had been used at one moment.
#[derive(Debug)]
pub struct Snapshot {
    at: Instant,
    servers: f64,
    own: f64,
    machine: f64,
}

/// The seconds of processor time between two moments, and those that passed.
#[derive(Debug)]
pub struct Usage {
    pub seconds: f64,
    pub servers: f64,
    pub own: f64,
    /// Over a short time it may be less than nothing, because the clocks tick.
    pub foreign: f64,
}

impl Snapshot {
    pub fn take(servers: &[u32]) -> Result<Self> {
        let machine = machine()?;
        let mut total = 0.0;
        for server in servers {
            total += process(*server)?;
        }
        Ok(Self { at: Instant::now(), servers: total, own: process(std::process::id())?, machine })
    }

    pub fn since(&self, before: &Snapshot) -> Usage {
        let servers = self.servers - before.servers;
        let own = self.own - before.own;
        let foreign = self.machine - before.machine - servers - own;
        Usage { seconds: (self.at - before.at).as_secs_f64(), servers, own, foreign }
    }
}

/// The resident memory of all of them now, in KiB.
pub fn resident(processes: &[u32]) -> Result<u64> {
    let mut total = 0;
    for id in processes {
        let status = read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.ok_or_else(|| format!("/proc/{id}/status has no VmRSS"))?;
        total += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(total)
}

/// User and system time, the 14th and 15th field. The second one is a name, in which anything may stand.
fn process(id: u32) -> Result<f64> {
    let stat = read_to_string(format!("/proc/{id}/stat")).map_err(|error| format!("process {id}: {error}"))?;
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
