//! Where the accepted calls of one client go: into the records of the hub and what it has collected.
//!
//! Made anew for each thing that happens to a client; it owns nothing. Readers talk to it by the trait [`Sink`].

use postroom_protocol::{Error, Header};

use super::HubCore;
use crate::hub::calls::{Calls, Ended, Place};
use crate::job::{ClientKey, Content, Job, Shell, Ticket};
use crate::peer::Peer;
use crate::program::registry::ProcedureEntry;
use crate::program::{Class, Codec};
use crate::reader::client::{Accept, Found, Named, Sink, Start};
use crate::stage::CallRef;
use crate::stats::buckets::bucket;
use crate::stats::outcome::Verdict;
use crate::time::Instant;

/// The procedure that was found last, behind its numbers: most calls that come together, or one after the other, are of
/// one procedure.
pub(super) type LastFound = ((u32, u32, i32), Found);

/// Takes the accepted calls of one client into the basket.
pub(crate) struct HubSink<'a> {
    hub: &'a HubCore,
    key: ClientKey,
    peer: Peer,
    last: Option<LastFound>,
}

impl<'a> HubSink<'a> {
    pub(super) fn new(hub: &'a HubCore, key: ClientKey, peer: Peer) -> Self {
        Self { hub, key, peer, last: hub.last_found.get() }
    }

    /// What is called that was not called last.
    #[inline(never)]
    fn look_up(&mut self, numbers: (u32, u32, i32)) -> Result<Found, Error> {
        let (program, version, procedure) = numbers;
        let registry = self.hub.handover.registry();
        let entry = registry.find(program, version, procedure)?;
        let found = Found { entry, codec: registry.procedure(entry).codec };
        self.last = Some((numbers, found));
        self.hub.last_found.set(self.last);
        Ok(found)
    }

    /// A block for a job of the pool, if there is one; those behind it are about to be used, too.
    fn shell(&self) -> Option<Shell> {
        let mut shells = self.hub.shells.borrow_mut();
        let shell = shells.pop_front()?;
        if let Some(next) = shells.get(1) {
            next.prefetch();
        }
        Some(shell)
    }

    fn calls(&self) -> std::cell::RefMut<'_, Calls> {
        self.hub.calls.borrow_mut()
    }
}

impl Sink for HubSink<'_> {
    #[inline(always)]
    fn find(&mut self, program: u32, version: u32, procedure: i32) -> Result<Found, Error> {
        let numbers = (program, version, procedure);
        match self.last {
            Some((last, found)) if last == numbers => Ok(found),
            _ => self.look_up(numbers),
        }
    }

    fn find_method(&self, method: &str) -> Result<Named, Error> {
        let registry = self.hub.handover.registry();
        let entry = registry.find_method(method)?;
        let &ProcedureEntry { program, version, number: procedure, codec, .. } = registry.procedure(entry);
        Ok(Named { found: Found { entry, codec }, program, version, procedure })
    }

    fn codec(&self, header: &Header) -> Codec {
        self.hub.handover.registry().codec(header.program, header.version)
    }

    #[inline(always)]
    fn accept(&mut self, call: &Accept, place: Place) -> CallRef {
        if place == Place::Backlog {
            // It waits for a reply to have left; one may have, and only the hub has not looked yet.
            self.hub.wake_turn();
        }
        let (entry, deadline) = (call.entry, call.deadline);
        self.hub.stats.accepted(entry);
        if self.hub.handover.registry().procedure(entry).class == Class::Inline {
            if place == Place::Started && deadline.is_none() && call.ties.is_none() {
                return CallRef::NONE;
            }
            // Those that came before this are older.
            self.hub.take_down_inline();
        }
        let call = self.calls().accept(self.key, call, place);
        if let Some(deadline) = deadline
            && self.hub.sleeps_until.get().is_none_or(|until| deadline < until)
        {
            self.hub.wake_turn();
        }
        call
    }

    #[inline(always)]
    fn accept_plain(&mut self, entry: u32) -> bool {
        // Most inline calls run before anybody can look for them.
        let is_inline = self.hub.handover.registry().procedure(entry).class == Class::Inline;
        if is_inline {
            self.hub.stats.accepted(entry);
        }
        is_inline
    }

    fn moved(&mut self, call: CallRef, place: Place) {
        self.calls().moved(call, place);
    }

    fn oldest(&self, header: &Header) -> Option<CallRef> {
        self.hub.take_down_inline();
        self.calls().oldest(self.key, header)
    }

    fn unanswered(&self) -> Vec<(CallRef, bool)> {
        self.hub.take_down_inline();
        let registry = self.hub.handover.registry();
        let unanswered = self.calls().unanswered(self.key);
        unanswered.into_iter().map(|(call, entry)| (call, registry.procedure(entry).runs_to_end)).collect()
    }

    fn end(&mut self, call: CallRef, verdict: Verdict, now: Instant) -> Option<Ended> {
        let ended = self.calls().end(call)?;
        if ended.is_running {
            self.hub.stats.answered_early(ended.entry, verdict);
        } else {
            let queued = bucket(now.nanos_since(ended.received));
            self.hub.stats.answered(ended.entry, verdict, queued, None);
        }
        if ended.place == Place::Started {
            self.hub.handover.ended(self.hub.number, call, ended.entry, ended.cost, ended.is_running);
        }
        Some(ended)
    }

    #[inline(always)]
    fn start(&mut self, start: Start<'_>) {
        let Start { call, accept, arguments } = start;
        let class = self.hub.handover.registry().procedure(accept.entry).class;
        let mut basket = self.hub.basket.borrow_mut();
        self.hub.announce(&mut basket);
        let basket = &mut *basket;
        let (shell, lot) = match class {
            Class::Inline => (basket.inline_comes(self.key), &mut basket.inline),
            Class::Blocking => (self.shell(), &mut basket.blocking),
            Class::Asynchronous => (self.shell(), &mut basket.asynchronous),
        };
        let mut job = match shell {
            Some(shell) => Job::again(shell),
            None => Job::new(Content::new(Ticket::blank(self.hub.number, accept.received), self.peer)),
        };
        job.ticket.set(self.key, self.peer.client_id(), call, accept);
        job.peer = self.peer;
        job.deadline = accept.deadline;
        if let Some(ties) = &accept.ties {
            job.ties = Some(ties.clone());
        }
        basket.payloads.lay(arguments, &mut job.payload, lot.jobs.len(), &mut lot.payloads);
        lot.jobs.push_back(job);
    }
}
