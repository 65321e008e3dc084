//! What Postroom is to reach beside its peers, as ratios of medians within one run: a floor that it must not fall below,
//! and a goal.

use crate::case::{Case, KIB, MIB, Shape};
use crate::peer::{Family, Peer};
use crate::summary::{Measure, Spread, Summary};

/// One ratio, or the one figure that stands for itself.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub of: &'static str,
    pub case: Case,
    pub what: What,
    pub floor: f64,
    pub goal: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Calls a second, to those of the other; at least.
    Rate(Against),
    /// The 99th percentile, to that of the other; at most.
    P99(Against),
    /// Processor time of the server for each call, to that of the other; at most.
    ServerCpu(Against),
    /// KiB for each client after one call; at most.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Against {
    Limit,
    Redis,
    /// The best set-up of any framework for remote calls, by what is compared.
    BestRpc,
    Libvirt,
}

/// What was measured of a floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The ratio of medians, or the median.
    pub value: f64,
    /// The name of the other.
    pub to: &'static str,
    /// The ratios within each round. What is compared ran within seconds there, so that they tell what the medians cannot
    /// where the machine is faster in one round than in the next.
    pub rounds: Spread,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Goal,
    Floor,
    Missed,
    NotMeasured,
}

impl Verdict {
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Goal => "goal met",
            Verdict::Floor => "floor met",
            Verdict::Missed => "**missed**",
            Verdict::NotMeasured => "not measured",
        }
    }
}

const INLINE: &str = "postroom-inline-raw";
const POOL: &str = "postroom-pool-raw";
const OWN: &str = "postroom-pool-own";

const ONE: Case = small(1, 64);
const MANY: Case = small(16, 16);
const WIDE: Case = small(256, 1);
const ONE_CORE: Case = Case::Load(Shape::new(1, 1, 32).on_one_core());
const PAGES: Case = Case::Load(Shape::new(16, 16, 4 * KIB));
const LARGE: Case = Case::Load(Shape::new(1, 8, MIB));

const fn small(connections: usize, depth: usize) -> Case {
    Case::Load(Shape::new(connections, depth, 32))
}

const fn rate(of: &'static str, case: Case, against: Against, floor: f64, goal: f64) -> Floor {
    Floor { of, case, what: What::Rate(against), floor, goal }
}

const FLOORS: [Floor; 23] = [
    rate(INLINE, ONE, Against::Redis, 1.2, 1.4),
    rate(INLINE, MANY, Against::Redis, 1.0, 1.4),
    rate(INLINE, MANY, Against::Limit, 0.45, 0.6),
    rate(INLINE, WIDE, Against::Redis, 0.8, 1.0),
    rate(INLINE, ONE_CORE, Against::Limit, 0.8, 0.95),
    rate(INLINE, PAGES, Against::Limit, 0.35, 0.5),
    rate(INLINE, LARGE, Against::Limit, 0.75, 0.9),
    Floor { of: INLINE, case: MANY, what: What::P99(Against::Limit), floor: 2.5, goal: 1.7 },
    Floor { of: INLINE, case: MANY, what: What::ServerCpu(Against::Redis), floor: 0.9, goal: 0.7 },
    rate(POOL, ONE, Against::Redis, 0.7, 1.0),
    rate(POOL, ONE, Against::BestRpc, 1.8, 2.8),
    rate(POOL, MANY, Against::Redis, 0.85, 1.1),
    rate(POOL, MANY, Against::BestRpc, 2.0, 2.5),
    rate(POOL, WIDE, Against::BestRpc, 0.9, 1.2),
    rate(POOL, ONE_CORE, Against::Limit, 0.5, 0.65),
    rate(POOL, PAGES, Against::Redis, 0.8, 1.0),
    rate(POOL, LARGE, Against::Limit, 0.75, 0.9),
    Floor { of: POOL, case: MANY, what: What::P99(Against::BestRpc), floor: 0.9, goal: 0.5 },
    Floor { of: POOL, case: MANY, what: What::ServerCpu(Against::Redis), floor: 1.5, goal: 1.1 },
    rate(OWN, ONE, Against::BestRpc, 2.0, 2.0),
    rate(OWN, MANY, Against::BestRpc, 2.0, 2.0),
    Floor { of: POOL, case: Case::IDLE, what: What::Idle, floor: 2.5, goal: 1.8 },
    rate(POOL, MANY, Against::Libvirt, 30.0, 30.0),
];

impl Floor {
    pub fn all() -> &'static [Floor] {
        &FLOORS
    }

    /// The ratio, or the figure, as it was measured.
    pub fn value(&self, summary: Summary<'_>) -> Option<Value> {
        let peer = Peer::by_name(self.of).ok()?;
        let (measure, against) = match self.what {
            What::Rate(against) => (Measure::CallsPerSecond, against),
            What::P99(against) => (Measure::Latency(99.0), against),
            What::ServerCpu(against) => (Measure::ServerCpu, against),
            What::Idle => {
                let rounds = summary.memory(self.case, peer, |memory| memory.after_one_call_kib)?;
                return Some(Value { value: rounds.median, to: "", rounds });
            }
        };
        let own = summary.median(self.case, peer, measure)?;
        let (other, to) = match against {
            // The limit is the raw client; its other one is there to be compared with clients of its kind.
            Against::Limit => {
                let limit = Peer::by_name("limit-raw").ok()?;
                (limit, summary.median(self.case, limit, measure)?)
            }
            Against::Redis => summary.best(self.case, |family| family == Family::Redis, measure)?,
            Against::BestRpc => summary.best(self.case, Family::is_rpc, measure)?,
            Against::Libvirt => summary.best(self.case, |family| family == Family::Libvirt, measure)?,
        };
        let rounds = summary.ratios(self.case, (peer, other), measure)?;
        (to > 0.0).then_some(Value { value: own / to, to: other.name, rounds })
    }

    pub fn verdict(&self, value: Option<f64>) -> Verdict {
        let reaches = |value: f64, bound: f64| if self.is_at_least() { value >= bound } else { value <= bound };
        match value {
            None => Verdict::NotMeasured,
            Some(value) if reaches(value, self.goal) => Verdict::Goal,
            Some(value) if reaches(value, self.floor) => Verdict::Floor,
            Some(_) => Verdict::Missed,
        }
    }

    pub fn is_at_least(&self) -> bool {
        matches!(self.what, What::Rate(_))
    }

    pub fn measure(&self) -> &'static str {
        match self.what {
            What::Rate(_) => "calls a second",
            What::P99(_) => "p99",
            What::ServerCpu(_) => "server CPU for each call",
            What::Idle => "KiB for each idle client",
        }
    }

    pub fn against(&self) -> &'static str {
        match self.what {
            What::Rate(against) | What::P99(against) | What::ServerCpu(against) => match against {
                Against::Limit => "the limit",
                Against::Redis => "Redis",
                Against::BestRpc => "the best RPC peer",
                Against::Libvirt => "libvirt",
            },
            What::Idle => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::run;

    #[test]
    fn every_floor_is_about_a_case_and_a_peer_that_are_measured() {
        for floor in Floor::all() {
            let peer = Peer::by_name(floor.of).unwrap();
            assert!(Case::usual().contains(&floor.case) && peer.takes(floor.case), "{floor:?}");
            let goal_is_further =
                if floor.is_at_least() { floor.goal >= floor.floor } else { floor.goal <= floor.floor };
            assert!(goal_is_further, "{floor:?}");
        }
    }

    #[test]
    fn a_rate_is_at_least_and_a_latency_at_most() {
        let rate = rate(POOL, MANY, Against::Redis, 0.85, 1.1);
        let verdicts = [Some(1.1), Some(1.0), Some(0.84), None].map(|value| rate.verdict(value));
        assert_eq!(verdicts, [Verdict::Goal, Verdict::Floor, Verdict::Missed, Verdict::NotMeasured]);
        let latency = Floor { of: POOL, case: MANY, what: What::P99(Against::BestRpc), floor: 0.9, goal: 0.5 };
        let verdicts = [0.5, 0.6, 1.0].map(|value| latency.verdict(Some(value)));
        assert_eq!(verdicts, [Verdict::Goal, Verdict::Floor, Verdict::Missed]);
    }

    #[test]
    fn the_ratio_is_that_of_medians_to_the_best_of_the_others() {
        let mut runs = Vec::new();
        for (round, rate) in [(1, 100.0), (2, 400.0), (3, 200.0)] {
            runs.push(run(MANY, POOL, round, rate));
            runs.push(run(MANY, "tarpc-inline", round, rate / 2.0));
            runs.push(run(MANY, "tonic", round, rate / 4.0));
        }
        let floor = rate(POOL, MANY, Against::BestRpc, 2.0, 2.5);
        let rounds = Spread { median: 2.0, least: 2.0, most: 2.0 };
        assert_eq!(floor.value(Summary(&runs)), Some(Value { value: 2.0, to: "tarpc-inline", rounds }));
        assert_eq!(floor.verdict(Some(2.0)), Verdict::Floor);
        let to_redis = rate(POOL, MANY, Against::Redis, 0.85, 1.1);
        assert_eq!(to_redis.value(Summary(&runs)), None);
    }
}
