//! The table: medians over the rounds, and the ratio to the best set-up of tarpc.

use std::fmt;

use crate::contender::Contender;
use crate::measure::Measured;
use crate::{SHAPES, Shape};

/// All measurements, in the order in which they were made.
#[derive(Default)]
pub struct Table(Vec<(Shape, Contender, Measured)>);

impl Table {
    pub fn add(&mut self, shape: Shape, contender: Contender, measured: Measured) {
        self.0.push((shape, contender, measured));
    }

    /// The rounds of one row.
    fn rounds(&self, shape: Shape, contender: Contender) -> impl Iterator<Item = &Measured> {
        self.0.iter().filter(move |row| row.0 == shape && row.1 == contender).map(|row| &row.2)
    }

    fn median(&self, shape: Shape, contender: Contender, value: fn(&Measured) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds(shape, contender).map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| connections × depth | | calls/s | least–most | to tarpc's best | p50, µs | p99, µs \
             | server CPU, s per million calls | disturbed rounds |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        let rate = |measured: &Measured| measured.calls_per_second;
        for shape in SHAPES {
            let tarpc = Contender::ALL.into_iter().filter(|contender| contender.is_tarpc());
            let best = tarpc.map(|contender| self.median(shape, contender, rate)).fold(0.0, f64::max);
            for contender in Contender::ALL {
                let median = |value| self.median(shape, contender, value);
                let rates = || self.rounds(shape, contender).map(rate);
                let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
                let n_disturbed = self.rounds(shape, contender).filter(|measured| measured.is_disturbed()).count();
                writeln!(
                    f,
                    "| {}×{} | {} | {:.0} | {least:.0}–{most:.0} | {:.2} | {:.0} | {:.0} | {:.2} | {n_disturbed} of {} |",
                    shape.connections,
                    shape.depth,
                    contender.name(),
                    median(rate),
                    median(rate) / best,
                    median(|measured| measured.p50),
                    median(|measured| measured.p99),
                    median(|measured| measured.server_cpu),
                    rates().count(),
                )?;
            }
        }
        Ok(())
    }
}
