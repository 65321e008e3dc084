//! Events: clients register for them, and the steps in the lives of domains are published.
//!
//! A registration is a subscription of the connection it came by, and ends with it. Its number is the "callback ID"
//! that libvirt puts into each event; which events and which domain it is about stands in the [`Watches`].

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use postroom::{Call, Error, Event, Publisher, SubscribeOptions, Subscription};
use serde::Deserialize;

use super::Remote;
use super::types::{DomainRef, Lifecycle};
use crate::model::fault::{Fault, Kind, Origin};
use crate::model::inventory::Card;
use crate::model::machine::Step;
use crate::model::watches::{EVENTS, Watch, Watches};

/// A step in the life of a domain: `REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE`.
pub const LIFECYCLE: Event<Lifecycle> = Event::new(318, "domain_event_callback_lifecycle");

/// The serial that libvirt's daemon gives all events.
const SERIAL: u32 = 1;

/// Who has registered for what, and the way to tell them.
pub struct Registrations {
    watches: Mutex<Watches>,
    publisher: Publisher,
}

impl Registrations {
    pub fn new(publisher: Publisher) -> Self {
        Self { watches: Mutex::default(), publisher }
    }

    /// Tells all who want to know of a step in a domain's life.
    pub fn announce(&self, card: &Card, step: Step) {
        let watches = self.watches();
        self.publisher.publish_each(LIFECYCLE, |subscription| {
            watches.wants_lifecycle(subscription.number(), card.uuid).then(|| Lifecycle {
                callback_id: subscription.number().cast_signed(),
                dom: DomainRef::from(card),
                event: step.event,
                detail: step.detail,
            })
        });
    }

    fn add(&self, subscription: Subscription, watch: Watch) {
        self.watches().insert(subscription.number(), watch, || {
            // Nothing is published: it only tells which subscriptions there are.
            let mut open = HashSet::new();
            self.publisher.publish_each(LIFECYCLE, |subscription| {
                open.insert(subscription.number());
                None
            });
            open
        });
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        // A change has one step, so a panic left it whole.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registers a callback; of one domain, or of all.
#[derive(Deserialize, Message)]
#[rtype(result = "Result<i32, Error>")]
pub struct Register {
    event: i32,
    dom: Option<DomainRef>,
}

impl Handler<Call<Register>> for Remote {
    type Result = Result<i32, Error>;

    fn handle(&mut self, call: Call<Register>, _: &mut Self::Context) -> Self::Result {
        let Register { event, dom } = &call.args;
        if !(0..EVENTS).contains(event) {
            return Err(Fault::new(Kind::Internal, Origin::Driver, format!("unsupported event ID {event}")).into());
        }
        // The other events are registered for as well, and never happen.
        let subscription =
            call.subscribe(LIFECYCLE, SubscribeOptions { serial: Some(SERIAL), ..SubscribeOptions::DEFAULT })?;
        let watch = Watch { event: *event, domain: dom.as_ref().map(DomainRef::uuid) };
        self.registrations.add(subscription, watch);
        Ok(subscription.number().cast_signed())
    }
}

/// Takes a registration back.
#[derive(Deserialize, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Deregister {
    callback_id: i32,
}

impl Handler<Call<Deregister>> for Remote {
    type Result = Result<(), Error>;

    fn handle(&mut self, call: Call<Deregister>, _: &mut Self::Context) -> Self::Result {
        let id = call.args.callback_id;
        call.unsubscribe(Subscription::from_number(id.cast_unsigned())).map_err(|_| {
            Fault::new(Kind::Internal, Origin::Driver, format!("domain event callback {id} not registered"))
        })?;
        self.registrations.watches().remove(id.cast_unsigned());
        Ok(())
    }
}
