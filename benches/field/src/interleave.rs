//! All measurements of a run: case by case, in each as many rounds as were asked for, in each round peer after peer, so
//! that what the machine does meanwhile meets all of them.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;
use crate::case::Case;
use crate::measure::{Run, Settings, measure};
use crate::peer::Peer;
use crate::repeats::{Repeats, estimate, minutes};

/// What a measurement takes beside its own time: server and client start, connect and end.
pub const START: Duration = Duration::from_millis(200);
/// What it takes to measure memory: to connect, and until the memory is at rest three times.
const AT_REST: Duration = Duration::from_millis(2500);

pub fn interleave(peers: &[Peer], cases: &[Case], n_rounds: usize, settings: &Settings) -> Result<Vec<Run>> {
    let mut plan = Vec::new();
    for case in cases {
        for round in 1..=n_rounds {
            plan.extend(peers.iter().filter(|peer| peer.takes(*case)).map(|peer| (*case, round, *peer)));
        }
    }
    let time = |case: Case| match case {
        Case::Load(_) => START + settings.warm_up + settings.time,
        Case::Idle(_) => START + AT_REST,
    };
    let progress = Progress::begin(plan.iter().map(|(case, ..)| time(*case)))?;
    let mut repeats = Repeats::default();
    let mut runs: Vec<Run> = Vec::new();
    for (case, round, peer) in plan {
        progress.next(format!("{case}, round {round} of {n_rounds}: {}", peer.name));
        // What has failed once will fail again, and takes its time to do so.
        let has_failed = |run: &Run| run.failure.is_some() && run.case == case.to_string() && run.peer == peer.name;
        if !runs.iter().any(has_failed) {
            let run = measure(peer, case, round, settings, &mut repeats);
            if let Some(failure) = &run.failure {
                progress.say(format!("{} at {case}: {failure}", peer.name));
            }
            runs.push(run);
        }
        progress.done();
    }
    progress.end();
    Ok(runs)
}

/// What is told meanwhile, on standard error. It is drawn when a measurement begins or ends and never in between, because
/// it shares the cores with what is measured.
pub struct Progress {
    began: Instant,
    bar: ProgressBar,
}

impl Progress {
    /// Tells how long it will take; each measurement has its time.
    pub fn begin(each: impl ExactSizeIterator<Item = Duration>) -> Result<Self> {
        let style = ProgressStyle::with_template("{bar:30} {pos} of {len}, {eta} left; {msg}")?;
        let bar = ProgressBar::new(each.len() as u64).with_style(style);
        eprintln!("{}", estimate(each));
        Ok(Self { began: Instant::now(), bar })
    }

    pub fn next(&self, what: String) {
        self.bar.set_message(what);
    }

    pub fn say(&self, line: String) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    pub fn done(&self) {
        self.bar.inc(1);
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
        eprintln!("it took {}", minutes(self.began.elapsed()));
    }
}
