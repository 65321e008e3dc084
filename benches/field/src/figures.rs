//! The figures of the field: throughput by shape, latency by percentile, memory of idle clients. There is none of what was
//! not measured.

use crate::case::Case;
use crate::load::tally::PERCENTILES;
use crate::output::plot::{Bar, Curve, Panel, curves, grouped, panels};
use crate::peer::{Family, Peer};
use crate::summary::{Measure, Summary};

/// Set-ups that are shown for themselves; of the other families the best is.
const SHOWN: [&str; 6] = [
    "limit-raw",
    "limit-calls",
    "postroom-inline-raw",
    "postroom-pool-raw",
    "postroom-inline-own",
    "postroom-pool-own",
];

pub fn throughput(cases: &[Case], summary: Summary<'_>) -> Option<String> {
    let mut all = Vec::new();
    for case in cases.iter().filter(|case| matches!(case, Case::Load(_))) {
        let bars: Vec<Bar> = shown(*case, summary)
            .into_iter()
            .filter_map(|peer| {
                let value = summary.median(*case, peer, Measure::CallsPerSecond)?;
                Some(Bar { name: peer.name.to_owned(), value, shown: grouped(value), color: color(peer) })
            })
            .collect();
        if !bars.is_empty() {
            all.push(Panel { title: format!("{case}, calls a second"), bars });
        }
    }
    (!all.is_empty()).then(|| panels(&all))
}

pub fn latency(case: Case, summary: Summary<'_>) -> Option<String> {
    let kept: Vec<f64> = PERCENTILES.into_iter().filter(|percentile| *percentile >= 50.0).collect();
    let marks: Vec<String> = kept.iter().map(|percentile| format!("p{percentile}")).collect();
    let of = |peer: Peer| {
        let values: Option<Vec<f64>> =
            kept.iter().map(|percentile| summary.median(case, peer, Measure::Latency(*percentile))).collect();
        Some(Curve { name: peer.name.to_owned(), values: values?, color: color(peer) })
    };
    let all: Vec<Curve> = shown(case, summary).into_iter().filter_map(of).collect();
    (!all.is_empty()).then(|| curves(&format!("{case}, latency in µs"), &marks, &all))
}

pub fn memory(case: Case, summary: Summary<'_>) -> Option<String> {
    let of = |peer: &Peer| {
        let value = summary.memory(case, *peer, |memory| memory.after_one_call_kib)?.median;
        let name = peer.family.name().to_owned();
        Some(Bar { name, value, shown: format!("{value:.1} KiB"), color: color(*peer) })
    };
    let mut bars: Vec<Bar> = Peer::all().iter().filter_map(of).collect();
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    let title = "resident memory of the server for each idle client, after one call of each".to_owned();
    (!bars.is_empty()).then(|| panels(&[Panel { title, bars }]))
}

fn shown(case: Case, summary: Summary<'_>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = SHOWN.iter().filter_map(|name| Peer::by_name(name).ok()).collect();
    for family in Family::ALL {
        if !matches!(family, Family::Limit | Family::Postroom) {
            let best = summary.best(case, |other| other == family, Measure::CallsPerSecond);
            peers.extend(best.map(|(peer, _)| peer));
        }
    }
    peers
}

pub fn color(peer: Peer) -> &'static str {
    match (peer.family, peer.name) {
        (Family::Postroom, "postroom-inline-raw") => "#0a7d34",
        (Family::Postroom, "postroom-inline-own") => "#5fb57c",
        (Family::Postroom, "postroom-pool-own") => "#6f9bd8",
        (Family::Postroom, _) => "#1f5fbf",
        (Family::Limit, "limit-calls") => "#999999",
        (Family::Limit, _) => "#555555",
        (Family::Tarpc, _) => "#c0392b",
        (Family::Tonic, _) => "#8e44ad",
        (Family::Ttrpc, _) => "#b8860b",
        (Family::Zlink, _) => "#d35400",
        (Family::Capnp, _) => "#16858a",
        (Family::Redis, _) => "#e0409a",
        (Family::Nats, _) => "#7a5c3e",
        (Family::Libvirt, _) => "#222266",
    }
}
