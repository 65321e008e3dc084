//! How calls of a client end before their result: cancelled, late, or left behind by a client that is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_protocol::Error;

use super::incoming::Incoming;
use super::{Arguments, Client, Held, Phase, Sink, Start};
use crate::form::Form;
use crate::hub::calls::Place;
use crate::stage::CallRef;
use crate::stats::outcome::Verdict;
use crate::time::Instant;

impl Client {
    /// The client has left: its calls are ended, but for those of procedures that run to their end.
    pub(crate) fn disconnect(&mut self, now: Instant, sink: &mut impl Sink) {
        self.phase = Phase::Gone;
        self.incoming = Incoming::Nothing;
        self.unsplit = None;
        self.outlet = None;
        self.in_progress -= self.output.clear();
        for (call, runs_to_end) in sink.unanswered() {
            if !runs_to_end {
                self.end_call(call, None, now, sink);
            }
        }
    }

    /// Answers every call that is left with this error, or with nothing if the client has left. Returns how many.
    pub(crate) fn finish(&mut self, error: &Error, now: Instant, sink: &mut impl Sink) -> usize {
        let unanswered = sink.unanswered().into_iter();
        unanswered.filter(|&(call, _)| self.end_call(call, Some(error), now, sink)).count()
    }

    /// Ends a call before its result has come: the client gets this error for it. False when it is answered already.
    pub(crate) fn end_call(
        &mut self,
        call: CallRef,
        error: Option<&Error>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> bool {
        let verdict = error.map_or_else(|| Verdict::of(&Error::cancelled()), Verdict::of);
        let Some(ended) = sink.end(call, verdict, now) else { return false };
        log::debug!(
            client = self.peer.client_id(), serial = ended.header.serial, trace = ended.trace.as_deref();
            "a call ended {}: {}",
            if ended.is_running { "while it runs" } else { "before it began" },
            error.map_or("its client left".to_owned(), ToString::to_string),
        );
        let error = error.filter(|_| !self.is_gone());
        // A notification is answered with nothing.
        let packet = error.filter(|_| ended.form != Form::Nothing).map(|error| {
            let mut packet = Vec::new();
            ended.form.error(&ended.header, error, &mut packet);
            Bytes::from(packet)
        });
        if ended.place == Place::Backlog {
            let held = self.backlog.iter().position(|held| held.call == call);
            if held.and_then(|held| self.backlog.remove(held)).is_some() {
                self.backlog_bytes -= u64::from(ended.cost);
            }
            if let Some(packet) = packet {
                self.push(packet, 0, now);
            }
            return true;
        }
        if let (Place::Key, Some(waiting)) = (ended.place, ended.key.as_ref().and_then(|key| self.keys.get_mut(key))) {
            waiting.retain(|held| held.call != call);
        }
        match packet {
            Some(packet) => self.answered(packet, 1, ended.cost.into(), now),
            None => self.answered_and_left(1, ended.cost.into(), now),
        }
        if let (Place::Started, false, Some(key)) = (ended.place, ended.is_running, &ended.key) {
            self.key_done(key, sink);
        }
        true
    }

    /// The call whose deadline has passed is answered.
    pub(crate) fn deadline_passed(&mut self, call: CallRef, deadline: Duration, now: Instant, sink: &mut impl Sink) {
        let ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.end_call(call, Some(&Error::deadline_exceeded(ms)), now, sink);
    }

    /// A call with this key has ended: the next one starts.
    pub(crate) fn key_done(&mut self, key: &Arc<[u8]>, sink: &mut impl Sink) {
        match self.keys.get_mut(key).map(VecDeque::pop_front) {
            Some(Some(Held { call, accept, arguments })) => {
                sink.moved(call, Place::Started);
                sink.start(Start { call, accept: &accept, arguments: Arguments::Owned(arguments) });
            }
            Some(None) => {
                self.keys.remove(key);
            }
            None => {}
        }
    }
}
