//! What the tests have in common: the loop, and watches that tell what libvirt's callbacks see.

mod daemon;
mod domain;
mod line;
mod the_loop;
mod watch;

use std::time::Duration;

pub use daemon::Daemon;
pub use domain::{Lifecycle, domain};
pub use line::Line;
pub use the_loop::the_loop;
pub use watch::{Seen, Watch};

/// How long anything may take before a test gives up on it: only what hangs takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);
