//! The pool: the actor that holds pending calls, and what it shares with arbiters and workers.
//!
//! [`Pool`]'s mailbox is where a call arrives that no worker can take at once. What it keeps lies in
//! [`pending`], plain data under a lock, so that a worker that becomes free takes from it without a message. The way
//! of most calls does not come by here: see [`handover`]. How many workers there are is the supervisor's to do and
//! [`growth`]'s to decide.

mod bell;
mod fair;
pub(crate) mod growth;
pub(crate) mod handover;
mod idle;
mod meeting;
#[cfg(test)]
mod model;
mod pending;
mod permit;
pub(crate) mod place;
mod shed;
pub(crate) mod tray;

use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};

use crate::job::Basket;
use crate::time::Instant;
use handover::Handover;
pub(crate) use pending::End;
pub(crate) use permit::Permit;

/// The actor that takes in calls that have to wait. Bound of its mailbox: the permits inside the baskets.
#[derive(Debug)]
pub(crate) struct Pool {
    handover: Arc<Handover>,
}

/// Calls for the pool to take in, because no worker is free.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct TakeIn(pub(crate) Basket);

impl Pool {
    pub(crate) fn new(handover: Arc<Handover>) -> Self {
        Self { handover }
    }
}

impl Actor for Pool {
    type Context = Context<Self>;
}

impl Handler<TakeIn> for Pool {
    type Result = ();

    fn handle(&mut self, basket: TakeIn, _: &mut Self::Context) {
        self.handover.take_in(basket.0.into_jobs(), End::Back, Instant::now());
    }
}
