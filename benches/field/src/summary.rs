//! What the rounds say together: medians, and how far apart the rounds are.

use crate::case::Case;
use crate::load::{Measured, Memory, Outcome};
use crate::measure::Run;
use crate::peer::{Family, Peer};

/// Of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
        Some(Self { median, least, most })
    }
}

/// What can be asked of a run under load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    CallsPerSecond,
    /// Microseconds.
    Latency(f64),
    /// Seconds for a million calls.
    ServerCpu,
    ClientCpu,
    /// KiB.
    ServerMemory,
}

impl Measure {
    pub fn of(self, measured: &Measured) -> f64 {
        match self {
            Measure::CallsPerSecond => measured.calls_per_second,
            Measure::Latency(percentile) => measured.latency(percentile).unwrap_or(f64::NAN),
            Measure::ServerCpu => measured.server_cpu,
            Measure::ClientCpu => measured.client_cpu,
            Measure::ServerMemory => measured.server_kib as f64,
        }
    }

    /// Whether `one` is better than `other`.
    fn is_better(self, one: f64, other: f64) -> bool {
        if self == Measure::CallsPerSecond { one > other } else { one < other }
    }
}

fn measured(run: &Run, measure: Measure) -> Option<f64> {
    match &run.outcome {
        Some(Outcome::Load(measured)) => Some(measure.of(measured)),
        _ => None,
    }
}

/// All runs, to be asked.
#[derive(Clone, Copy)]
pub struct Summary<'a>(pub &'a [Run]);

impl Summary<'_> {
    pub fn runs(&self, case: Case, peer: Peer) -> impl Iterator<Item = &Run> {
        let case = case.to_string();
        self.0.iter().filter(move |run| run.case == case && run.peer == peer.name)
    }

    pub fn spread(&self, case: Case, peer: Peer, measure: Measure) -> Option<Spread> {
        Spread::of(self.runs(case, peer).filter_map(|run| measured(run, measure)))
    }

    pub fn median(&self, case: Case, peer: Peer, measure: Measure) -> Option<f64> {
        Some(self.spread(case, peer, measure)?.median)
    }

    pub fn memory(&self, case: Case, peer: Peer, value: fn(&Memory) -> f64) -> Option<Spread> {
        let values = self.runs(case, peer).filter_map(|run| match &run.outcome {
            Some(Outcome::Idle(memory)) => Some(value(memory)),
            _ => None,
        });
        Spread::of(values)
    }

    /// The best set-up among those of some families.
    pub fn best(&self, case: Case, of: impl Fn(Family) -> bool, measure: Measure) -> Option<(Peer, f64)> {
        let peers = Peer::all().iter().filter(|peer| of(peer.family));
        let medians = peers.filter_map(|peer| Some((*peer, self.median(case, *peer, measure)?)));
        medians.reduce(|best, other| if measure.is_better(other.1, best.1) { other } else { best })
    }

    /// The ratios of one to another within each round that has both.
    pub fn ratios(&self, case: Case, (one, other): (Peer, Peer), measure: Measure) -> Option<Spread> {
        let others = |round| measured(self.runs(case, other).find(|run| run.round == round)?, measure);
        let ratios = self.runs(case, one).filter_map(|run| Some(measured(run, measure)? / others(run.round)?));
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }

    pub fn n_disturbed(&self, case: Case, peer: Peer) -> usize {
        self.runs(case, peer).filter(|run| run.disturbed).count()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::load::tally::PERCENTILES;

    /// A run with this rate; its 99th percentile is the number of calls a second, divided by ten.
    pub fn run(case: Case, peer: &str, round: usize, calls_per_second: f64) -> Run {
        let latencies = PERCENTILES.map(|percentile| calls_per_second / 10.0 + percentile - 99.0).to_vec();
        let measured = Measured { calls_per_second, latencies, ..Measured::default() };
        Run {
            case: case.to_string(),
            round,
            peer: peer.to_owned(),
            repeats: 0,
            disturbed: round == 1,
            outcome: Some(Outcome::Load(measured)),
            failure: None,
        }
    }

    #[test]
    fn the_median_is_in_the_middle_and_nothing_has_none() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(spread(&[7.0]), Some(Spread { median: 7.0, least: 7.0, most: 7.0 }));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_those_of_runs_of_one_round() {
        let case = Case::all()[0];
        let (one, other) = (Peer::by_name("redis").unwrap(), Peer::by_name("nats").unwrap());
        let mut runs: Vec<Run> =
            [100.0, 300.0, 900.0].into_iter().zip(1..).map(|(rate, round)| run(case, one.name, round, rate)).collect();
        runs.extend([50.0, 100.0].into_iter().zip(1..).map(|(rate, round)| run(case, other.name, round, rate)));
        let ratios = |pair| Summary(&runs).ratios(case, pair, Measure::CallsPerSecond);
        assert_eq!(ratios((one, other)), Some(Spread { median: 2.5, least: 2.0, most: 3.0 }), "the third has one only");
        assert_eq!(ratios((one, Peer::by_name("tonic").unwrap())), None);
    }

    #[test]
    fn the_best_set_up_is_that_with_the_best_median_of_its_own_case() {
        let case = Case::all()[0];
        let other = Case::all()[1];
        let runs = [
            run(case, "tarpc-inline", 1, 10.0),
            run(case, "tarpc-inline", 2, 90.0),
            run(case, "tarpc-inline", 3, 20.0),
            run(case, "zlink", 1, 30.0),
            run(case, "redis", 1, 1000.0),
            run(other, "ttrpc", 1, 500.0),
        ];
        let summary = Summary(&runs);
        let (best, rate) = summary.best(case, Family::is_rpc, Measure::CallsPerSecond).unwrap();
        assert_eq!((best.name, rate), ("zlink", 30.0));
        let (best, latency) = summary.best(case, Family::is_rpc, Measure::Latency(99.0)).unwrap();
        assert_eq!((best.name, latency), ("tarpc-inline", 2.0));
        assert_eq!(summary.n_disturbed(case, best), 1);
        assert!(summary.best(other, |family| family == Family::Redis, Measure::CallsPerSecond).is_none());
    }
}
