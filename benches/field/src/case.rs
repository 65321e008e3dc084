//! What is measured: how many calls are under way, on how many connections, with how many bytes, on how many cores.

use std::fmt;
use std::str::FromStr;

use crate::Result;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    Load(Shape),
    /// So many clients that have made one call each, and are silent.
    Idle(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub connections: usize,
    /// Calls at once on each connection.
    pub depth: usize,
    /// Bytes in each call, and in each reply.
    pub size: usize,
    /// Client and server share one core.
    pub one_core: bool,
}

impl Shape {
    pub const fn new(connections: usize, depth: usize, size: usize) -> Self {
        Self { connections, depth, size, one_core: false }
    }

    pub const fn on_one_core(self) -> Self {
        Self { one_core: true, ..self }
    }
}

impl Case {
    /// The case that measures memory.
    pub const IDLE: Case = Case::Idle(2000);

    /// All of them, in the order in which they are measured and told.
    pub fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for size in [32, 4 * KIB] {
            for (connections, depth) in [(1, 1), (1, 64), (16, 16), (256, 1), (1000, 4)] {
                cases.push(Case::Load(Shape::new(connections, depth, size)));
            }
        }
        cases.push(Case::Load(Shape::new(1, 1, MIB)));
        cases.push(Case::Load(Shape::new(1, 8, MIB)));
        cases.push(Case::Load(Shape::new(1, 1, 32).on_one_core()));
        cases.push(Case::IDLE);
        cases
    }

    /// Those that are measured if none are asked for: what floors and goals are about, and one call at a time.
    pub fn usual() -> Vec<Case> {
        let (many, pages, large) = (Shape::new(16, 16, 32), Shape::new(16, 16, 4 * KIB), Shape::new(1, 8, MIB));
        let one = Shape::new(1, 1, 32);
        let shapes = [one, Shape::new(1, 64, 32), many, Shape::new(256, 1, 32), pages, large, one.on_one_core()];
        shapes.into_iter().map(Case::Load).chain([Case::IDLE]).collect()
    }

    /// One call at a time, with both processes on one core.
    pub fn one_core() -> Vec<Case> {
        [32, 4 * KIB, MIB].map(|size| Case::Load(Shape::new(1, 1, size).on_one_core())).to_vec()
    }

    pub fn is_one_core(self) -> bool {
        matches!(self, Case::Load(Shape { one_core: true, .. }))
    }
}

/// As on the command line: `16x16-32B`, `1x8-1MiB`, `1x1-32B-one-core`, `idle-2000`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Idle(n_clients) => write!(f, "idle-{n_clients}"),
            Case::Load(shape) => {
                write!(f, "{}x{}-{}", shape.connections, shape.depth, bytes(shape.size))?;
                f.write_str(if shape.one_core { "-one-core" } else { "" })
            }
        }
    }
}

fn bytes(n: usize) -> String {
    match n {
        n if n >= MIB && n.is_multiple_of(MIB) => format!("{}MiB", n / MIB),
        n if n >= KIB && n.is_multiple_of(KIB) => format!("{}KiB", n / KIB),
        n => format!("{n}B"),
    }
}

impl FromStr for Case {
    type Err = crate::Failure;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("{text:?} is no case; one is 16x16-32B, 1x8-1MiB, 1x1-32B-one-core or idle-2000");
        if let Some(n_clients) = text.strip_prefix("idle-") {
            return Ok(Case::Idle(n_clients.parse().map_err(|_| wrong())?));
        }
        let (rest, one_core) = match text.strip_suffix("-one-core") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let parse = || -> Option<Shape> {
            let (calls, size) = rest.split_once('-')?;
            let (connections, depth) = calls.split_once('x')?;
            let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit = match &size[digits.len()..] {
                "B" => 1,
                "KiB" => KIB,
                "MiB" => MIB,
                _ => return None,
            };
            let size = digits.parse::<usize>().ok()?.checked_mul(unit)?;
            Some(Shape { connections: connections.parse().ok()?, depth: depth.parse().ok()?, size, one_core })
        };
        let shape = parse().filter(|shape| shape.connections > 0 && shape.depth > 0);
        Ok(Case::Load(shape.ok_or_else(wrong)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_is_written() {
        for case in Case::all().into_iter().chain(Case::one_core()) {
            assert_eq!(case.to_string().parse::<Case>().unwrap(), case);
        }
    }

    #[test]
    fn what_is_usual_is_told_in_the_order_of_all() {
        let all = Case::all();
        let places: Vec<usize> =
            Case::usual().iter().map(|usual| all.iter().position(|case| case == usual).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn what_is_no_case_is_refused() {
        for text in
            ["", "1x1", "1x1-32", "0x1-32B", "1x0-32B", "1x1-B", "axb-1B", "1x1-1GiB", "idle-", "1x1-32B-two-cores"]
        {
            assert!(text.parse::<Case>().is_err(), "{text}");
        }
    }
}
