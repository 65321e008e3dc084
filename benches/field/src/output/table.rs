//! Figures that have names, of things that have names, by round: what `scale` and `isolation` find.

use std::fmt::Write;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::repeats::DISTURBED;
use crate::summary::Spread;

/// What was measured of one thing in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    pub part: &'static str,
    pub row: String,
    pub round: usize,
    pub foreign_cpus: f64,
    #[serde(serialize_with = "as_map")]
    pub values: Vec<(&'static str, f64)>,
}

fn as_map<S: Serializer>(values: &[(&'static str, f64)], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(values.len()))?;
    for (name, value) in values {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[derive(Clone, Copy)]
pub struct Table<'a>(pub &'a [Point]);

impl Table<'_> {
    /// A part as Markdown: medians over the rounds, rows and columns in the order in which they came.
    pub fn text(&self, part: &str) -> String {
        let mut columns: Vec<&str> = Vec::new();
        for point in self.points(part) {
            for (name, _) in &point.values {
                if !columns.contains(name) {
                    columns.push(name);
                }
            }
        }
        let mut text =
            format!("| {part} | {} | disturbed |\n|---|{}---|", columns.join(" | "), "---|".repeat(columns.len()));
        for row in self.rows(part) {
            // Writing to a string does not fail.
            let _ = write!(text, "\n| {row} |");
            for column in &columns {
                match self.spread(part, row, column) {
                    Some(spread) => {
                        let _ = write!(text, " {} |", shown(spread.median));
                    }
                    None => text += " – |",
                }
            }
            let points = || self.points(part).filter(|point| point.row == row);
            let n_disturbed = points().filter(|point| point.foreign_cpus > DISTURBED).count();
            let _ = write!(text, " {n_disturbed} of {} |", points().count());
        }
        text
    }

    /// The medians of one column.
    pub fn medians(&self, part: &str, column: &str) -> Vec<(String, f64)> {
        let rows = self.rows(part).into_iter();
        rows.filter_map(|row| Some((row.to_owned(), self.spread(part, row, column)?.median))).collect()
    }

    fn points(&self, part: &str) -> impl Iterator<Item = &Point> {
        self.0.iter().filter(move |point| point.part == part)
    }

    fn rows(&self, part: &str) -> Vec<&str> {
        let mut rows: Vec<&str> = Vec::new();
        for point in self.points(part) {
            if !rows.contains(&point.row.as_str()) {
                rows.push(&point.row);
            }
        }
        rows
    }

    fn spread(&self, part: &str, row: &str, column: &str) -> Option<Spread> {
        let points = self.points(part).filter(|point| point.row == row);
        Spread::of(points.flat_map(|point| &point.values).filter(|(name, _)| *name == column).map(|(_, value)| *value))
    }
}

fn shown(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(row: &str, round: usize, values: &[(&'static str, f64)]) -> Point {
        Point { part: "things", row: row.to_owned(), round, foreign_cpus: 0.0, values: values.to_vec() }
    }

    #[test]
    fn rows_have_the_medians_of_their_rounds_and_a_dash_for_what_they_lack() {
        let points = [
            point("one", 1, &[("cost", 1.0), ("size", 1000.4)]),
            point("two", 1, &[("cost", 5.0)]),
            point("one", 2, &[("cost", 3.0), ("size", 1000.4)]),
        ];
        let text = Table(&points).text("things");
        assert_eq!(
            text,
            "| things | cost | size | disturbed |\n|---|---|---|---|\n| one | 2.00 | 1000 | 0 of 2 |\n| two | 5.00 | – | 0 of 1 |"
        );
        assert_eq!(Table(&points).medians("things", "size"), [("one".to_owned(), 1000.4)]);
        assert_eq!(Table(&points).medians("nothing", "size"), []);
    }

    #[test]
    fn values_are_a_map_in_json() {
        let text = serde_json::to_string(&point("one", 1, &[("cost", 1.5)])).unwrap();
        assert!(text.ends_with("\"values\":{\"cost\":1.5}}"), "{text}");
    }
}
