//! The limit: what tokio, the socket and the kernel allow. A server of one thread that gives each packet of Postroom's
//! wire back as its own reply, without a look at what is in it; and two clients, the raw one that Postroom has too, and
//! the least that has a future for each call.

mod calls;
mod echo;

use super::postroom::{Class, Packets};
use super::{Place, Server};
use crate::Result;
use crate::load::raw::{self, Transport};
use crate::load::{Outcome, Plan};

pub use calls::calls;
pub use echo::serve;

pub fn launch(place: &Place, name: &str) -> Result<Server> {
    super::launch_self(place, name)
}

pub fn raw(plan: &Plan) -> Result<Outcome> {
    raw::run(plan, Transport::Unix, &Packets::new(Class::Inline, &plan.payload()))
}
