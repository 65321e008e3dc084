//! What was measured, for people: a table for each case, and the comparison with the floors.

use std::fmt::Write;

use crate::case::Case;
use crate::floors::{Floor, Value};
use crate::machine::Machine;
use crate::measure::Settings;
use crate::peer::Peer;
use crate::repeats::TOLD;
use crate::summary::{Measure, Spread, Summary};

/// How much of a run there is to tell.
pub struct Report<'a> {
    pub machine: &'a Machine,
    pub settings: &'a Settings,
    pub n_rounds: usize,
    pub left_out: &'a [String],
    pub cases: &'a [Case],
    pub summary: Summary<'a>,
}

impl Report<'_> {
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        writeln!(to, "# The field\n")?;
        machine(to, self.machine)?;
        let (time, warm_up) = (self.settings.time, self.settings.warm_up);
        writeln!(
            to,
            "Medians of {} interleaved rounds of {time:?} each after {warm_up:?}, client and server a process each, Unix \
             sockets (NATS: TCP over the loopback). Only ratios within one table mean something. {TOLD}\n",
            self.n_rounds
        )?;
        for line in self.left_out {
            writeln!(to, "- left out: {line}")?;
        }
        for case in self.cases {
            match case {
                Case::Load(_) => self.load(to, *case)?,
                Case::Idle(n_clients) => self.idle(to, *case, *n_clients)?,
            }
        }
        self.failures(to)?;
        self.floors(to)
    }

    fn load(&self, to: &mut String, case: Case) -> std::fmt::Result {
        writeln!(to, "\n## {case}\n")?;
        writeln!(
            to,
            "| peer | calls/s | least–most | p50, µs | p99, µs | p99.9, µs | server CPU, s per million | client CPU | \
             server, MiB | disturbed |\n|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for peer in Peer::all() {
            let Some(rate) = self.summary.spread(case, *peer, Measure::CallsPerSecond) else {
                continue;
            };
            let median = |measure| self.summary.median(case, *peer, measure).unwrap_or(f64::NAN);
            writeln!(
                to,
                "| {} | {:.0} | {:.0}–{:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {} of {} |",
                peer.name,
                rate.median,
                rate.least,
                rate.most,
                median(Measure::Latency(50.0)),
                median(Measure::Latency(99.0)),
                median(Measure::Latency(99.9)),
                median(Measure::ServerCpu),
                median(Measure::ClientCpu),
                median(Measure::ServerMemory) / 1024.0,
                self.summary.n_disturbed(case, *peer),
                self.summary.runs(case, *peer).count(),
            )?;
        }
        Ok(())
    }

    fn idle(&self, to: &mut String, case: Case, n_clients: usize) -> std::fmt::Result {
        writeln!(to, "\n## Resident KiB of the server for each of {n_clients} idle clients\n")?;
        writeln!(to, "| peer | connected | after one call each | least–most |\n|---|---|---|---|")?;
        for peer in Peer::all() {
            let connected = self.summary.memory(case, *peer, |memory| memory.connected_kib);
            let after = self.summary.memory(case, *peer, |memory| memory.after_one_call_kib);
            if let (Some(connected), Some(after)) = (connected, after) {
                let (name, connected) = (peer.name, connected.median);
                writeln!(
                    to,
                    "| {name} | {connected:.2} | {:.2} | {:.2}–{:.2} |",
                    after.median, after.least, after.most
                )?;
            }
        }
        Ok(())
    }

    fn failures(&self, to: &mut String) -> std::fmt::Result {
        let mut failures = self.summary.0.iter().filter(|run| run.failure.is_some()).peekable();
        if failures.peek().is_some() {
            writeln!(to, "\n## Failures\n")?;
        }
        for run in failures {
            let failure = run.failure.as_deref().unwrap_or_default();
            let line = failure.lines().map(str::trim).collect::<Vec<_>>().join("; ");
            writeln!(to, "- {} at {}: {line}", run.peer, run.case)?;
        }
        Ok(())
    }

    fn floors(&self, to: &mut String) -> std::fmt::Result {
        writeln!(to, "\n## Floors and goals\n")?;
        writeln!(
            to,
            "Ratios of medians of this run, and of each round by itself: their median, and how far they lie apart. Postroom's raw client against each peer's fastest.\n"
        )?;
        writeln!(to, "| Postroom | case | measure | to | value | floor | goal | | rounds | least–most |")?;
        writeln!(to, "|---|---|---|---|---|---|---|---|---|---|")?;
        for floor in Floor::all() {
            let value = floor.value(self.summary);
            let verdict = floor.verdict(value.map(|it| it.value)).text();
            let show = |value: f64| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
            let (shown, other, rounds) = match value {
                Some(Value { value, to, rounds: Spread { median, least, most } }) => {
                    (show(value), to, format!("{} | {}–{}", show(median), show(least), show(most)))
                }
                None => ("–".to_owned(), "", "– | –".to_owned()),
            };
            let to_what = match (floor.against(), other) {
                ("", _) => String::new(),
                (against, "") => against.to_owned(),
                (against, other) => format!("{against} ({other})"),
            };
            let sign = if floor.is_at_least() { "≥" } else { "≤" };
            writeln!(
                to,
                "| {} | {} | {} | {to_what} | {shown} | {sign} {} | {sign} {} | {verdict} | {rounds} |",
                floor.of,
                floor.case,
                floor.measure(),
                floor.floor,
                floor.goal,
            )?;
        }
        Ok(())
    }
}

/// What it was measured on, and with.
pub fn machine(to: &mut String, machine: &Machine) -> std::fmt::Result {
    let Machine { date, cpu, cores, memory_mib, kernel, versions } = machine;
    writeln!(to, "{date}, {cpu}, {cores} cores, {memory_mib} MiB, {kernel}.\n")?;
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name}: {version}")).collect();
    writeln!(to, "{}.\n", versions.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::run;
    use std::time::Duration;

    #[test]
    fn the_tables_have_what_was_measured_and_the_floors_what_was_not() {
        let case: Case = "16x16-32B".parse().unwrap();
        let runs = [run(case, "postroom-pool-raw", 1, 300.0), run(case, "redis", 1, 100.0)];
        let machine = Machine {
            date: "today".into(),
            cpu: "one".into(),
            cores: 2,
            memory_mib: 3,
            kernel: "Linux".into(),
            versions: Default::default(),
        };
        let settings = Settings { postroom: "".into(), warm_up: Duration::ZERO, time: Duration::from_secs(1) };
        let report = Report {
            machine: &machine,
            settings: &settings,
            n_rounds: 1,
            left_out: &["nats: not there".to_owned()],
            cases: &[case],
            summary: Summary(&runs),
        };
        let text = report.text();
        assert!(text.contains("| postroom-pool-raw | 300 | 300–300 |"), "{text}");
        assert!(text.contains("- left out: nats: not there"), "{text}");
        assert!(text.contains("| Redis (redis) | 3.00 | ≥ 0.85 | ≥ 1.1 | goal met |"), "{text}");
        assert!(text.contains("| libvirt | – | ≥ 30 | ≥ 30 | not measured |"), "{text}");
    }
}
