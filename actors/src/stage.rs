//! The stage of each call in progress, where its hub and the thread that runs it both see it.
//!
//! The hub opens a call when it takes it down and ends it when it is cancelled or its deadline passes; the thread that is
//! about to run it begins it, and answers it when it has the reply and writes that itself. Of begin and end, and of end
//! and answer, one comes first, by one atomic word: a call that was ended never runs, a call that runs learns that it
//! was ended, and a call has one answer. Nothing is allocated for a call, and nothing is waited for.
//!
//! Bound: one word for each call that was ever in progress at once on this hub, in chunks that are kept.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use postroom_protocol::Error;

use crate::event_loop::EventLoop;
use crate::events::{Bulletin, Publisher, SubscribeOptions, Subscription};
use crate::hub::Hubs;
use crate::job::Ticket;
use crate::prefetch;

/// A call in the records of its hub. The generation tells it from an earlier one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallRef {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl CallRef {
    /// A call that has no record: an inline one, until somebody looks for it, or it does not run in the turn in which it
    /// was read. No record has this slot, since each takes more than a byte.
    pub(crate) const NONE: Self = Self { slot: u32::MAX, generation: 0 };

    pub(crate) fn is_none(self) -> bool {
        self.slot == Self::NONE.slot
    }
}

/// What had become of a call when it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// It had not begun, and never will.
    Waiting,
    /// It runs; its result will be thrown away.
    Running,
}

const WAITING: u64 = 0;
const RUNNING: u64 = 1;
const ENDED: u64 = 2;
const ANSWERED: u64 = 3;

/// Slots in the first chunk; each further chunk has twice as many as the one before.
pub(crate) const FIRST: usize = 256;
/// Enough chunks for 2³² slots.
pub(crate) const CHUNKS: usize = 25;
/// So many stages lie on one cache line.
const LINE: usize = 8;

/// The stages of one hub's calls.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

impl Stages {
    /// A call is accepted. Only the hub calls this, for a slot that no call has.
    pub(crate) fn open(&self, call: CallRef) {
        let (chunk, offset) = place(call.slot);
        let chunk_words = self.chunks[chunk]
            .get_or_init(|| std::iter::repeat_with(AtomicU64::default).take(FIRST << chunk).collect());
        // Whoever runs the call gets it by a message or under a lock, after this.
        chunk_words[offset].store(word(call, WAITING), Ordering::Relaxed);
    }

    /// A thread is about to run a call. False when it was ended: then it must not run.
    pub(crate) fn begin(&self, call: CallRef) -> bool {
        let exchange = |stage: &AtomicU64| {
            stage.compare_exchange(word(call, WAITING), word(call, RUNNING), Ordering::AcqRel, Ordering::Acquire)
        };
        let (chunk, offset) = place(call.slot);
        self.chunks[chunk].get().is_some_and(|words| {
            // The calls behind it have the slots behind its own, most often.
            if let Some(next) = words.get(offset + LINE) {
                prefetch::to_write(next);
            }
            exchange(&words[offset]).is_ok()
        })
    }

    /// The hub is about to have a call run on its own thread, which it knows not to have ended: nobody else has it, so
    /// nothing can come in between.
    pub(crate) fn begin_here(&self, call: CallRef) {
        if let Some(stage) = self.word(call) {
            debug_assert_eq!(stage.load(Ordering::Relaxed), word(call, WAITING));
            stage.store(word(call, RUNNING), Ordering::Relaxed);
        }
    }

    /// A thread gives back a call that it was about to run. False when it was ended meanwhile: then it must not run, and
    /// its hub waits to hear that it is gone.
    pub(crate) fn unbegin(&self, call: CallRef) -> bool {
        let exchange = |stage: &AtomicU64| {
            stage.compare_exchange(word(call, RUNNING), word(call, WAITING), Ordering::AcqRel, Ordering::Acquire)
        };
        self.word(call).is_some_and(|stage| match exchange(stage) {
            Ok(_) => true,
            // It had not begun.
            Err(there) => there == word(call, WAITING),
        })
    }

    /// A thread has the reply to a call that it ran, and is about to write it. False when the hub has ended the call, or
    /// when it never began.
    pub(crate) fn answer(&self, call: CallRef) -> bool {
        let exchange = |stage: &AtomicU64| {
            stage.compare_exchange(word(call, RUNNING), word(call, ANSWERED), Ordering::AcqRel, Ordering::Acquire)
        };
        self.word(call).is_some_and(|stage| exchange(stage).is_ok())
    }

    /// The hub ends a call. `None` when its reply is written already, or about to be.
    pub(crate) fn end(&self, call: CallRef) -> Option<Was> {
        let Some(stage) = self.word(call) else { return Some(Was::Waiting) };
        let answered = word(call, ANSWERED);
        let end = |before: u64| (before != answered).then_some(word(call, ENDED));
        let before = stage.fetch_update(Ordering::AcqRel, Ordering::Acquire, end).ok()?;
        Some(if before == word(call, RUNNING) { Was::Running } else { Was::Waiting })
    }

    /// Whether a call may still be answered: it waits or runs, and was not ended. One without a record always may: its
    /// hub cannot end it while it runs on the hub's own thread.
    pub(crate) fn is_wanted(&self, call: CallRef) -> bool {
        let stage = self.word(call).map_or(0, |stage| stage.load(Ordering::Acquire));
        stage == word(call, WAITING) || stage == word(call, RUNNING)
    }

    fn word(&self, call: CallRef) -> Option<&AtomicU64> {
        let (chunk, offset) = place(call.slot);
        self.chunks[chunk].get().map(|words| &words[offset])
    }
}

pub(crate) fn place(slot: u32) -> (usize, usize) {
    let index = slot as usize + FIRST;
    let chunk = (index / FIRST).ilog2() as usize;
    (chunk, index - (FIRST << chunk))
}

fn word(call: CallRef, stage: u64) -> u64 {
    u64::from(call.generation) << 2 | stage
}

/// A call's own view of its stage, for its handler.
#[derive(Clone, Debug)]
pub(crate) struct View {
    hubs: Arc<Share>,
    hub: u16,
    client: crate::job::ClientKey,
    call: CallRef,
    /// The program that is called, and its version.
    program: (u32, u32),
}

/// The hubs, under a count of references that only one thread uses in the usual case: a shared one would cost more
/// than all else that is done for a call here.
#[derive(Debug)]
pub(crate) struct Share(pub(crate) Arc<Hubs>);

impl View {
    pub(crate) fn new(hubs: &Arc<Share>, ticket: &Ticket) -> Self {
        let program = (ticket.program, ticket.version);
        Self { hubs: hubs.clone(), hub: ticket.hub, client: ticket.client, call: ticket.call, program }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.hubs.0.stages(self.hub).is_wanted(self.call)
    }

    pub(crate) fn event_loop(&self) -> Option<&EventLoop> {
        self.hubs.0.event_loop()
    }

    /// Publishes the events of the program that is called.
    pub(crate) fn publisher(&self) -> Option<Publisher> {
        let (program, version) = self.program;
        self.hubs.0.bulletin()?.publisher(program, version)
    }

    /// Has the caller subscribe to an event of the program that is called.
    pub(crate) fn subscribe(&self, event: i32, options: SubscribeOptions) -> Result<Subscription, Error> {
        let (program, version) = self.program;
        self.bulletin()?.subscribe((self.hub, self.client), (program, version, event), options)
    }

    /// Has the caller subscribe to any event, by the names of its program and of itself.
    pub(crate) fn subscribe_by_name(
        &self,
        program: &str,
        event: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, Error> {
        self.bulletin()?.subscribe_by_name((self.hub, self.client), (program, event), options)
    }

    /// Ends a subscription of the caller.
    pub(crate) fn unsubscribe(&self, subscription: Subscription) -> Result<(), Error> {
        self.bulletin()?.unsubscribe(self.hub, self.client, subscription)
    }

    fn bulletin(&self) -> Result<&Bulletin, Error> {
        self.hubs.0.bulletin().ok_or_else(|| Error::unsupported("this service has no events"))
    }

    /// Sets the default deadline of the connection that the call came by.
    pub(crate) fn set_default_deadline(&self, deadline: std::time::Duration) {
        self.hubs.0.set_default_deadline(self.hub, self.client, deadline);
    }

    /// Has the connection that the call came by take part in keepalive.
    pub(crate) fn enable_keepalive(&self) {
        self.hubs.0.enable_keepalive(self.hub, self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallRef = CallRef { slot: 700, generation: 3 };

    #[test]
    fn a_call_that_was_ended_before_it_began_never_begins() {
        let stages = Stages::default();
        stages.open(CALL);
        assert!(stages.is_wanted(CALL));
        assert_eq!(stages.end(CALL), Some(Was::Waiting));
        assert!(!stages.begin(CALL));
        assert!(!stages.is_wanted(CALL));
    }

    #[test]
    fn a_call_that_its_hub_runs_itself_is_one_that_runs() {
        let stages = Stages::default();
        stages.open(CALL);
        stages.begin_here(CALL);
        assert!(stages.is_wanted(CALL));
        assert_eq!(stages.end(CALL), Some(Was::Running));
        assert!(!stages.is_wanted(CALL));
    }

    #[test]
    fn a_call_that_runs_learns_that_it_was_ended() {
        let stages = Stages::default();
        stages.open(CALL);
        assert!(stages.begin(CALL));
        assert!(stages.is_wanted(CALL));
        assert_eq!(stages.end(CALL), Some(Was::Running));
        assert!(!stages.is_wanted(CALL));
    }

    #[test]
    fn a_call_whose_slot_has_another_by_now_neither_begins_nor_disturbs_it() {
        let stages = Stages::default();
        stages.open(CALL);
        let next = CallRef { generation: 4, ..CALL };
        stages.open(next);
        assert!(!stages.begin(CALL));
        assert!(stages.begin(next));
    }

    #[test]
    fn slots_lie_in_chunks_without_gap_or_overlap() {
        let mut expected = (0, 0);
        for slot in 0..10_000 {
            assert_eq!(place(slot), expected);
            expected =
                if expected.1 + 1 == FIRST << expected.0 { (expected.0 + 1, 0) } else { (expected.0, expected.1 + 1) };
        }
        assert!(place(u32::MAX).0 < CHUNKS);
    }

    #[test]
    fn a_call_that_was_answered_is_not_ended_and_one_that_was_ended_or_never_began_is_not_answered() {
        let stages = Stages::default();
        stages.open(CALL);
        assert!(!stages.answer(CALL), "it waits");
        assert!(stages.begin(CALL) && stages.answer(CALL));
        assert!(!stages.answer(CALL));
        assert_eq!(stages.end(CALL), None);
        let next = CallRef { generation: 4, ..CALL };
        stages.open(next);
        assert!(stages.begin(next));
        assert_eq!(stages.end(next), Some(Was::Running));
        assert!(!stages.answer(next));
    }

    #[test]
    fn of_answer_and_end_at_once_exactly_one_comes_first() {
        let stages = Arc::new(Stages::default());
        for generation in 0..2000 {
            let call = CallRef { slot: 0, generation };
            stages.open(call);
            assert!(stages.begin(call));
            let other = stages.clone();
            let answered = std::thread::spawn(move || other.answer(call));
            let was = stages.end(call);
            assert_eq!(answered.join().unwrap(), was.is_none());
        }
    }

    #[test]
    fn of_begin_and_end_at_once_exactly_one_comes_first() {
        let stages = Arc::new(Stages::default());
        for generation in 0..2000 {
            let call = CallRef { slot: 0, generation };
            stages.open(call);
            let other = stages.clone();
            let begun = std::thread::spawn(move || other.begin(call));
            let was = stages.end(call);
            assert_eq!(begun.join().unwrap(), was == Some(Was::Running));
        }
    }
}
