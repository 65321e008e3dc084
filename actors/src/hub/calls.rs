//! The calls in progress of all clients of one hub: plain data, with time as an argument.
//!
//! Each accepted call has a record from its receipt until its one answer, so that it can be found by its header when it
//! is cancelled, by its client when that leaves, and by its deadline; inline ones only where that may happen
//! (`inline.rs`). A call that was answered early while it runs keeps its record until its result comes, which is thrown
//! away.
//!
//! Bound: `max_client_requests` and `max_client_backlog` records for each client, and one for each call that runs
//! though it was answered. Deadlines: one entry each; stale ones are dropped when they are the most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use postroom_protocol::Header;

use crate::form::Form;
use crate::hub::Hubs;
use crate::hub::free::Free;
use crate::job::{ClientKey, Ticket};
use crate::reader::client::Accept;
use crate::stage::{CallRef, Was};
use crate::time::Instant;

/// The records of one hub.
#[derive(Debug)]
pub(crate) struct Calls {
    hubs: Arc<Hubs>,
    hub: u16,
    records: Vec<Record>,
    free: Free,
    /// The unanswered calls of each client, oldest first; by the client's slot.
    clients: Vec<List>,
    deadlines: BinaryHeap<Reverse<(Instant, CallRef)>>,
    /// How many records have a deadline.
    with_deadline: usize,
}

/// No record.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Record {
    generation: u32,
    place: Place,
    client: ClientKey,
    header: Header,
    entry: u32,
    form: Form,
    cost: u32,
    received: Instant,
    deadline: Option<Instant>,
    /// What ties the call to others and to the log, where it came with metadata.
    ties: Option<Arc<Ties>>,
    older: u32,
    newer: u32,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the client's backlog.
    Backlog,
    /// Started, but behind another call with the same key.
    Key,
    /// On its way to a handler, or there.
    Started,
    /// Answered early while it runs: its result will be thrown away.
    Answered,
    /// The record has no call.
    Free,
}

/// What a call's metadata says beside its deadline.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) key: Option<Arc<[u8]>>,
}

/// A call whose result has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) client: ClientKey,
    /// Whether its client waits for it: it was not answered before.
    pub(crate) is_wanted: bool,
    pub(crate) entry: u32,
    pub(crate) cost: u32,
    /// The next call with this key may start.
    pub(crate) key: Option<Arc<[u8]>>,
}

/// A call whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) call: CallRef,
    pub(crate) client: ClientKey,
    /// How long after its receipt that was.
    pub(crate) deadline: Duration,
}

/// A call that was ended early.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Where it was.
    pub(crate) place: Place,
    pub(crate) header: Header,
    pub(crate) entry: u32,
    pub(crate) form: Form,
    pub(crate) cost: u32,
    pub(crate) received: Instant,
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) key: Option<Arc<[u8]>>,
    /// Whether its handler runs: it is told, and its result will be thrown away.
    pub(crate) is_running: bool,
}

impl Record {
    /// One that is not in use yet, with the generation of its first call.
    fn new(client: ClientKey, call: &Accept) -> Self {
        let Accept { header, entry, form, cost, received, .. } = *call;
        let (generation, place, deadline, ties) = (0, Place::Free, None, None);
        let (older, newer) = (NONE, NONE);
        Self { generation, place, client, header, entry, form, cost, received, deadline, ties, older, newer }
    }

    fn key(&self) -> Option<Arc<[u8]>> {
        self.ties.as_ref()?.key.clone()
    }
}

impl Calls {
    pub(crate) fn new(hubs: Arc<Hubs>, hub: u16) -> Self {
        let (records, free, clients) = Default::default();
        Self { hubs, hub, records, free, clients, deadlines: BinaryHeap::new(), with_deadline: 0 }
    }

    #[cfg(test)]
    pub(crate) fn hubs(&self) -> &Hubs {
        &self.hubs
    }

    /// The header of a call that has a record.
    #[cfg(test)]
    pub(crate) fn header(&self, call: CallRef) -> Option<Header> {
        let record = self.records.get(call.slot as usize)?;
        (record.generation == call.generation).then_some(record.header)
    }

    /// How many records have a call, and how many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.records.len() - self.free.len(), self.records.len())
    }

    /// Takes down a call that has just been accepted, as the newest of its client.
    pub(crate) fn accept(&mut self, client: ClientKey, call: &Accept, place: Place) -> CallRef {
        let slot = client.slot as usize;
        if self.clients.len() <= slot {
            self.clients.resize(slot + 1, List { oldest: NONE, newest: NONE });
        }
        let number = self.free.take().unwrap_or_else(|| {
            self.records.push(Record::new(client, call));
            // Each record takes more than a byte, so there are fewer than 2³².
            (self.records.len() - 1) as u32
        });
        let older = std::mem::replace(&mut self.clients[slot].newest, number);
        match older {
            NONE => self.clients[slot].oldest = number,
            older => self.records[older as usize].newer = number,
        }
        // Field by field: a record that is built elsewhere is copied twice.
        let record = &mut self.records[number as usize];
        record.place = place;
        record.client = client;
        record.header = call.header;
        record.entry = call.entry;
        record.form = call.form;
        record.cost = call.cost;
        record.received = call.received;
        record.deadline = call.deadline;
        if call.ties.is_some() {
            record.ties.clone_from(&call.ties);
        }
        (record.older, record.newer) = (older, NONE);
        let call_ref = CallRef { slot: number, generation: record.generation };
        self.hubs.stages(self.hub).open(call_ref);
        if let Some(deadline) = call.deadline {
            self.with_deadline += 1;
            if self.deadlines.len() > 2 * self.with_deadline + 1024 {
                let mut deadlines = std::mem::take(&mut self.deadlines);
                deadlines.retain(|Reverse((_, call))| self.is_unanswered(*call));
                self.deadlines = deadlines;
            }
            self.deadlines.push(Reverse((deadline, call_ref)));
        }
        call_ref
    }

    /// Takes down a call that has started and has no record yet; one that has stays as it is.
    pub(crate) fn take_down(&mut self, ticket: &mut Ticket) {
        if ticket.call.is_none() {
            ticket.call = self.accept(ticket.client, &ticket.accept(), Place::Started);
        }
    }

    /// A call has moved on.
    pub(crate) fn moved(&mut self, call: CallRef, place: Place) {
        if let Some(record) = self.record(call) {
            record.place = place;
        }
    }

    /// Whether a call may run, now: not when it was ended, or when its deadline has passed.
    pub(crate) fn may_begin(&self, call: CallRef, now: Instant) -> bool {
        self.records.get(call.slot as usize).is_some_and(|record| {
            let is_due = record.deadline.is_some_and(|deadline| deadline <= now);
            record.generation == call.generation && record.place == Place::Started && !is_due
        })
    }

    /// The result of a call has come, or there will be none. `None` for a call that was never begun.
    pub(crate) fn finish(&mut self, call: CallRef) -> Option<Finished> {
        let record = self.record(call)?;
        let is_wanted = record.place != Place::Answered;
        let (client, entry, cost, key) = (record.client, record.entry, record.cost, record.key());
        if is_wanted {
            self.unlink(call);
        }
        self.release(call);
        Some(Finished { client, is_wanted, entry, cost, key })
    }

    /// Ends a call before its result has come. `None` when it was answered already.
    pub(crate) fn end(&mut self, call: CallRef) -> Option<Ended> {
        let was = match self.record(call)?.place {
            Place::Answered | Place::Free => return None,
            // The reply is being written by the thread that ran the call: it is on its way here.
            _ => self.hubs.stages(self.hub).end(call)?,
        };
        self.unlink(call);
        let record = self.record(call)?;
        let is_running = was == Was::Running;
        let ended = Ended {
            place: record.place,
            header: record.header,
            entry: record.entry,
            form: record.form,
            cost: record.cost,
            received: record.received,
            trace: record.ties.as_ref().and_then(|ties| ties.trace.clone()),
            key: record.key(),
            is_running,
        };
        if is_running {
            record.place = Place::Answered;
        } else {
            self.release(call);
        }
        Some(ended)
    }

    /// The oldest unanswered call of a client that a cancel packet with this header means.
    pub(crate) fn oldest(&self, client: ClientKey, header: &Header) -> Option<CallRef> {
        let means = |record: &Record| {
            let it = &record.header;
            it.serial == header.serial
                && it.procedure == header.procedure
                && it.program == header.program
                && it.version == header.version
        };
        self.of(client).find(|(_, record)| means(record)).map(|(call, _)| call)
    }

    /// The unanswered calls of a client with their procedures, oldest first.
    pub(crate) fn unanswered(&self, client: ClientKey) -> Vec<(CallRef, u32)> {
        self.of(client).map(|(call, record)| (call, record.entry)).collect()
    }

    /// When the next deadline comes up. It may be that of a call that is answered by then.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Takes out a call whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Due> {
        while self.next_deadline()? <= now {
            let Reverse((deadline, call)) = self.deadlines.pop()?;
            if self.is_unanswered(call) {
                let record = &self.records[call.slot as usize];
                let deadline = deadline.saturating_duration_since(record.received);
                return Some(Due { call, client: record.client, deadline });
            }
        }
        None
    }

    fn of(&self, client: ClientKey) -> impl Iterator<Item = (CallRef, &Record)> {
        let mut next = self.clients.get(client.slot as usize).map_or(NONE, |list| list.oldest);
        std::iter::from_fn(move || {
            let record = self.records.get(next as usize)?;
            let call = CallRef { slot: next, generation: record.generation };
            next = record.newer;
            Some((call, record))
        })
        // A slot's list belongs to the client that has it: that of the one before was empty when it left.
        .filter(move |(_, record)| record.client == client)
    }

    fn is_unanswered(&self, call: CallRef) -> bool {
        let record = self.records.get(call.slot as usize);
        record.is_some_and(|record| {
            record.generation == call.generation && !matches!(record.place, Place::Answered | Place::Free)
        })
    }

    fn record(&mut self, call: CallRef) -> Option<&mut Record> {
        let record = self.records.get_mut(call.slot as usize)?;
        (record.generation == call.generation && record.place != Place::Free).then_some(record)
    }

    /// Takes a call out of its client's list.
    fn unlink(&mut self, call: CallRef) {
        let record = &mut self.records[call.slot as usize];
        let (client, older, newer) = (record.client.slot as usize, record.older, record.newer);
        if record.deadline.is_some() {
            self.with_deadline -= 1;
        }
        match older {
            NONE => self.clients[client].oldest = newer,
            older => self.records[older as usize].newer = newer,
        }
        match newer {
            NONE => self.clients[client].newest = older,
            newer => self.records[newer as usize].older = older,
        }
    }

    /// Makes the record free for another call.
    fn release(&mut self, call: CallRef) {
        let record = &mut self.records[call.slot as usize];
        record.place = Place::Free;
        record.ties = None;
        record.generation = record.generation.wrapping_add(1);
        self.free.put(call.slot);
    }
}

#[cfg(test)]
mod tests {
    use postroom_protocol::{PacketType, Status};

    use super::*;
    use crate::program::Codec;

    fn header(serial: u32) -> Header {
        let packet_type = PacketType::Call;
        Header { program: 1, version: 1, procedure: 1, packet_type, serial, status: Status::Ok }
    }

    fn client(slot: u32) -> ClientKey {
        ClientKey { slot, generation: 0 }
    }

    fn accept(calls: &mut Calls, slot: u32, serial: u32, deadline: Option<Instant>) -> CallRef {
        let (form, received) = (Form::Packet(Codec::MessagePack), Instant::now());
        let call = Accept { header: header(serial), entry: 7, form, cost: 28, received, deadline, ties: None };
        calls.accept(client(slot), &call, Place::Started)
    }

    fn calls() -> Calls {
        Calls::new(Arc::new(Hubs::new(1, 0)), 0)
    }

    #[test]
    fn a_cancel_packet_means_the_oldest_unanswered_call_with_its_header() {
        let mut calls = calls();
        let first = accept(&mut calls, 0, 5, None);
        let second = accept(&mut calls, 0, 5, None);
        accept(&mut calls, 1, 6, None);
        assert_eq!(calls.oldest(client(0), &header(5)), Some(first));
        assert!(calls.finish(first).unwrap().is_wanted);
        assert_eq!(calls.oldest(client(0), &header(5)), Some(second));
        assert_eq!(calls.oldest(client(0), &header(6)), None);
        assert_eq!(calls.oldest(ClientKey { slot: 0, generation: 1 }, &header(5)), None);
    }

    #[test]
    fn a_call_begins_unless_it_was_ended_or_waits_elsewhere_or_its_deadline_has_passed() {
        let mut calls = calls();
        let now = Instant::now();
        let deadline = now + Duration::from_millis(5);
        let call = accept(&mut calls, 0, 1, Some(deadline));
        assert!(calls.may_begin(call, now));
        assert!(!calls.may_begin(call, deadline));
        calls.moved(call, Place::Key);
        assert!(!calls.may_begin(call, now));
        calls.moved(call, Place::Started);
        calls.end(call).unwrap();
        assert!(!calls.may_begin(call, now));
        let next = accept(&mut calls, 0, 2, None);
        assert_eq!(next.slot, call.slot);
        assert!(!calls.may_begin(call, now) && calls.may_begin(next, now));
    }

    #[test]
    fn a_call_that_waits_is_ended_for_good_and_one_that_runs_keeps_its_record_until_its_result() {
        let mut calls = calls();
        let (waits, runs) = (accept(&mut calls, 0, 1, None), accept(&mut calls, 0, 2, None));
        assert!(calls.hubs.stages(0).begin(runs));
        assert!(!calls.end(waits).unwrap().is_running);
        assert!(calls.end(runs).unwrap().is_running);
        assert!(calls.end(runs).is_none());
        assert_eq!(calls.finish(waits), None);
        assert!(!calls.finish(runs).unwrap().is_wanted);
        assert_eq!(calls.finish(runs), None);
        assert!(calls.unanswered(client(0)).is_empty());
        assert_eq!(calls.free.len(), 2);
    }

    #[test]
    fn the_calls_of_a_client_are_listed_oldest_first_whichever_end_first() {
        let mut calls = calls();
        let all: Vec<CallRef> = (0..5).map(|serial| accept(&mut calls, 3, serial, None)).collect();
        for index in [0, 4, 2] {
            calls.finish(all[index]).unwrap();
        }
        let left: Vec<CallRef> = calls.unanswered(client(3)).into_iter().map(|(call, _)| call).collect();
        assert_eq!(left, [all[1], all[3]]);
        let new = accept(&mut calls, 3, 9, None);
        assert_eq!(calls.unanswered(client(3)).last().map(|(call, _)| *call), Some(new));
    }

    #[test]
    fn deadlines_come_up_in_order_and_not_for_calls_that_are_answered() {
        let mut calls = calls();
        let now = Instant::now();
        let at = |seconds| Some(now + Duration::from_secs(seconds));
        let late = accept(&mut calls, 0, 1, at(3));
        let early = accept(&mut calls, 0, 2, at(1));
        let answered = accept(&mut calls, 0, 3, at(2));
        calls.finish(answered).unwrap();
        assert_eq!(calls.pop_due(now), None);
        let later = now + Duration::from_secs(5);
        let mut due = || calls.pop_due(later).map(|due| due.call);
        assert_eq!([due(), due(), due()], [Some(early), Some(late), None]);
    }

    #[test]
    fn deadlines_of_calls_that_were_answered_in_time_do_not_pile_up() {
        let mut calls = calls();
        let deadline = Instant::now() + Duration::from_secs(60);
        for serial in 0..100_000 {
            let call = accept(&mut calls, 0, serial, Some(deadline));
            calls.finish(call).unwrap();
        }
        assert!(calls.deadlines.len() <= 1100, "{}", calls.deadlines.len());
        assert_eq!(calls.records.len(), 1);
    }
}
