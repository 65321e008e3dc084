//! All that was measured, for programs.

use serde::Serialize;

use crate::Result;
use crate::load::tally::PERCENTILES;
use crate::machine::Machine;
use crate::measure::Run;

#[derive(Serialize)]
struct Report<'a, T> {
    machine: &'a Machine,
    left_out: &'a [String],
    /// Which percentiles `latencies` are, in microseconds.
    percentiles: [f64; 9],
    runs: &'a [T],
}

/// One run to a line, so that two files can be compared.
pub fn report(machine: &Machine, left_out: &[String], runs: &[Run]) -> Result<String> {
    lines(machine, left_out, runs)
}

pub fn lines<T: Serialize>(machine: &Machine, left_out: &[String], runs: &[T]) -> Result<String> {
    let none: &[T] = &[];
    let report = Report { machine, left_out, percentiles: PERCENTILES, runs: none };
    let head = serde_json::to_string_pretty(&report)?;
    let runs = runs.iter().map(serde_json::to_string).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(head.replace("\"runs\": []", &format!("\"runs\": [\n{}\n]", runs.join(",\n"))) + "\n")
}
