//! The load: what the process of the client does. It runs in one thread (libvirt's client alone has one for each call),
//! as a closed loop: each of CONNECTIONS × DEPTH slots makes the next call when the last one is answered.
//!
//! [`raw`] speaks a wire and nothing else; [`calls`] makes each call a future of a client library.

pub mod calls;
pub mod idle;
pub mod raw;
pub mod tally;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Shape};
use crate::{Result, case};
pub use tally::{Measured, Tally};

/// A client that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(90);

/// What a client is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub case: Case,
    /// The socket's path, or the host and port.
    pub address: String,
    /// The processes of the server.
    pub servers: Vec<u32>,
    pub warm_up: Duration,
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    Load(Measured),
    Idle(Memory),
}

/// What idle clients cost, in KiB for each.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Memory {
    pub connected_kib: f64,
    pub after_one_call_kib: f64,
}

impl Plan {
    /// The shape of one call at a time stands for idle clients too: each makes one.
    pub fn shape(&self) -> Shape {
        match self.case {
            Case::Load(shape) => shape,
            Case::Idle(n_clients) => Shape::new(n_clients, 1, 32),
        }
    }

    pub fn payload(&self) -> Vec<u8> {
        vec![b'x'; self.shape().size]
    }
}

/// Ends this process when it has taken too long, so that a server that does not answer does not hold up the rest.
pub fn limit_time() {
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST);
        eprintln!("the client is not done after {LONGEST:?}");
        std::process::exit(1);
    });
}

/// `case` is that of a load; idle clients are connected and counted by [`idle`].
pub fn is_large(size: usize) -> bool {
    size >= 64 * case::KIB
}

/// A reply that is not that of its call ends the run.
pub fn check_len(got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(format!("a reply has {got} bytes in place of {expected}").into()) }
}
