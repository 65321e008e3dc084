//! All measurements of a run: case by case, in each as many rounds as were asked for, in each round peer after peer, so
//! that what the machine does meanwhile meets all of them.

use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;
use crate::case::Case;
use crate::measure::{Run, Settings, measure};
use crate::peer::Peer;

pub fn interleave(peers: &[Peer], cases: &[Case], n_rounds: usize, settings: &Settings) -> Result<Vec<Run>> {
    let mut plan = Vec::new();
    for case in cases {
        for round in 1..=n_rounds {
            plan.extend(peers.iter().filter(|peer| peer.takes(*case)).map(|peer| (*case, round, *peer)));
        }
    }
    let bar = bar(plan.len())?;
    let mut runs: Vec<Run> = Vec::new();
    for (case, round, peer) in plan {
        bar.set_message(format!("{case}, round {round} of {n_rounds}: {}", peer.name));
        // What has failed once will fail again, and takes its time to do so.
        let has_failed = |run: &Run| run.failure.is_some() && run.case == case.to_string() && run.peer == peer.name;
        if !runs.iter().any(has_failed) {
            let run = measure(peer, case, round, settings);
            if let Some(failure) = &run.failure {
                bar.println(format!("{} at {case}: {failure}", peer.name));
            }
            runs.push(run);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(runs)
}

/// It is drawn when a run ends and never in between, because it shares the cores with what is measured.
pub fn bar(n_runs: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len}, {eta} left; {msg}")?;
    Ok(ProgressBar::new(n_runs as u64).with_style(style))
}
