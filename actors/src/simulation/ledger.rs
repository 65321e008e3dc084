//! What became of each call, checked at every step of its way: accepted, begun, ended early, answered, told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Instant;

use super::config::{Config, TO_END};

/// How exact the service's timers are here, and how long a thread takes to come to something.
pub(super) const TICK: Duration = Duration::from_millis(1);
pub(super) const DELAY: Duration = Duration::from_micros(60);

#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) procedure: u8,
    pub(super) key: Option<u8>,
    pub(super) is_accepted: bool,
    /// A handler has begun with it, and is done.
    pub(super) is_begun: bool,
    pub(super) is_done: bool,
    /// It was ended before its result came.
    pub(super) is_ended: bool,
    /// The hub has answered it, or its client has left and nobody is told.
    pub(super) is_answered: bool,
    /// The client has its reply.
    pub(super) is_told: bool,
    /// A pool limit was in its way.
    pub(super) is_refused: bool,
    /// Its client has sent a cancel packet for it.
    pub(super) is_cancelled: bool,
    /// It waits with the pool.
    pub(super) waits: bool,
    pub(super) started: Option<Instant>,
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By client and serial.
    pub(super) calls: Vec<Vec<Call>>,
    /// For each client and key that was used: the last call that began, and the one that runs.
    keys: BTreeMap<(usize, u8), (u32, Option<u32>)>,
    pub(super) accepted: u64,
    pub(super) answered: u64,
    pub(super) begun: u64,
    /// Since when some ordinary worker is idle, and some priority worker.
    idle_since: [Option<Instant>; 2],
    /// For clients whose calls wait with the pool: how many, and how many calls of each other began meanwhile.
    turns: BTreeMap<usize, (usize, BTreeMap<usize, usize>)>,
    fair: Option<usize>,
    slack: Duration,
    /// What is worth telling at the end of a run.
    pub(super) ended_waiting: u64,
    pub(super) ended_running: u64,
    pub(super) returned: u64,
    pub(super) refused: u64,
}

impl Ledger {
    pub(super) fn new(config: &Config) -> Self {
        // A thread that is not scheduled holds up what it was woken for.
        let slack = if config.preempted > 0 { 7 * TICK } else { Duration::ZERO };
        let fair = config.fair.then_some(1 + config.limits.max_workers);
        Self { fair, slack, ..Self::default() }
    }

    pub(super) fn call(&mut self, client: u64, serial: u32) -> &mut Call {
        &mut self.calls[client as usize][serial as usize]
    }

    pub(super) fn accepted(&mut self, client: u64, serial: u32, deadline: Option<Instant>) {
        self.accepted += 1;
        let call = self.call(client, serial);
        assert!(!std::mem::replace(&mut call.is_accepted, true), "{client}/{serial} was accepted twice");
        call.deadline = deadline;
    }

    /// A call has gone into the basket.
    pub(super) fn started(&mut self, client: u64, serial: u32, now: Instant) {
        let call = self.call(client, serial);
        assert!(call.is_accepted && !call.is_answered, "{client}/{serial} started: {call:?}");
        assert!(call.started.replace(now).is_none(), "{client}/{serial} started twice");
    }

    /// Whether workers are idle now, ordinary ones and priority ones.
    pub(super) fn idle(&mut self, idle: [bool; 2], now: Instant) {
        for (since, is) in self.idle_since.iter_mut().zip(idle) {
            *since = is.then(|| since.unwrap_or(now));
        }
    }

    /// A handler begins with a call. `idle` says which idle workers may have taken it before.
    pub(super) fn begun(&mut self, client: u64, serial: u32, may: [bool; 2], now: Instant) {
        self.begun += 1;
        let (idle_since, slack) = (self.idle_since, self.slack);
        let call = self.call(client, serial);
        let started = call.started.unwrap_or_else(|| panic!("{client}/{serial} began before it started"));
        assert!(!call.is_begun, "{client}/{serial} ran twice: {call:?}");
        assert!(!call.is_ended && !call.is_answered, "{client}/{serial} runs after it was ended: {call:?}");
        assert!(call.deadline.is_none_or(|deadline| now < deadline), "{client}/{serial} runs after its deadline");
        call.is_begun = true;
        let (key, waited) = (call.key, std::mem::take(&mut call.waits));
        for since in idle_since.into_iter().zip(may).filter_map(|(since, may)| since.filter(|_| may)) {
            let waited = now - since.max(started);
            assert!(
                waited <= 4 * TICK + 8 * DELAY + slack,
                "{client}/{serial} waited {waited:?} beside an idle worker"
            );
        }
        if let Some(key) = key {
            let (last, runs) = self.keys.entry((client as usize, key)).or_insert((serial, None));
            assert!(*last <= serial, "{client}/{serial} was overtaken by {last}, which has the same key");
            assert_eq!(*runs, None, "{client}/{serial} runs beside one with the same key");
            (*last, *runs) = (serial, Some(serial));
        }
        self.turn(client as usize, waited);
    }

    /// A call that had begun goes back: no handler has seen it.
    pub(super) fn returned(&mut self, client: u64, serial: u32) {
        self.begun -= 1;
        self.returned += 1;
        let call = self.call(client, serial);
        assert!(call.is_begun && !call.is_done);
        call.is_begun = false;
        self.key_free(client, serial);
    }

    /// Its handler is done with it.
    pub(super) fn done(&mut self, client: u64, serial: u32) {
        let call = self.call(client, serial);
        assert!(call.is_begun && !call.is_done, "{client}/{serial} is done: {call:?}");
        call.is_done = true;
        self.key_free(client, serial);
    }

    fn key_free(&mut self, client: u64, serial: u32) {
        if let Some(key) = self.call(client, serial).key {
            let (_, runs) = self.keys.get_mut(&(client as usize, key)).unwrap();
            assert_eq!(runs.take(), Some(serial));
        }
    }

    /// The pool has refused it.
    pub(super) fn refused(&mut self, client: u64, serial: u32) {
        self.refused += 1;
        let call = self.call(client, serial);
        assert!(!call.is_begun && !call.is_done, "{client}/{serial} was refused: {call:?}");
        call.is_refused = true;
    }

    /// The hub ends a call early.
    pub(super) fn ended(&mut self, client: u64, serial: u32, is_running: bool, by_deadline: bool, now: Instant) {
        *(if is_running { &mut self.ended_running } else { &mut self.ended_waiting }) += 1;
        let call = self.call(client, serial);
        assert!(call.is_accepted && !call.is_ended, "{client}/{serial} was ended: {call:?}");
        assert_eq!(is_running, call.is_begun, "{client}/{serial} was ended: {call:?}");
        call.is_ended = true;
        if by_deadline {
            let late = now - call.deadline.unwrap();
            assert!(late <= TICK + DELAY, "{client}/{serial}: its deadline had passed for {late:?}");
        }
        self.answered(client, serial, now);
    }

    /// The hub has the one answer to a call: its result, a refusal, or that it was ended.
    pub(super) fn answered(&mut self, client: u64, serial: u32, now: Instant) {
        self.answered += 1;
        let call = self.call(client, serial);
        assert!(!std::mem::replace(&mut call.is_answered, true), "{client}/{serial} was answered twice: {call:?}");
        assert!(call.is_ended || call.is_done || call.is_refused, "{client}/{serial} was answered: {call:?}");
        if let Some(deadline) = call.deadline {
            assert!(now <= deadline + TICK + DELAY, "{client}/{serial} was answered {:?} late", now - deadline);
        }
    }

    /// A reply has come to a client. Calls that were not accepted have serials from `u32::MAX` down.
    pub(super) fn told(&mut self, client: u64, serial: u32, code: Option<&str>) {
        if self.calls[client as usize].len() <= serial as usize {
            assert!(serial > u32::MAX / 2 && code.is_some(), "{client}/{serial} was answered and never sent");
            return;
        }
        let call = self.call(client, serial);
        assert!(call.is_answered, "{client}/{serial} was told and not answered: {call:?}");
        assert!(!std::mem::replace(&mut call.is_told, true), "{client}/{serial} was told twice: {call:?}");
        match code {
            None => assert!(call.is_done && !call.is_ended, "{client}/{serial} was told a result: {call:?}"),
            Some("cancelled" | "deadline_exceeded") => assert!(call.is_ended, "{client}/{serial}: {call:?}"),
            Some("overloaded") => assert!(call.is_refused, "{client}/{serial}: {call:?}"),
            Some("shutting_down") => assert!(call.is_ended, "{client}/{serial}: {call:?}"),
            Some(code) => panic!("{client}/{serial} was told {code}"),
        }
    }

    /// A call waits with the pool from now on.
    pub(super) fn pending(&mut self, client: u64, serial: u32) {
        if self.fair.is_some() {
            self.call(client, serial).waits = true;
            self.turns.entry(client as usize).or_default().0 += 1;
        }
    }

    fn turn(&mut self, client: usize, waited: bool) {
        let Some(bound) = self.fair else { return };
        for (other, (_, turns)) in self.turns.iter_mut().filter(|(other, _)| **other != client) {
            let count = turns.entry(client).or_default();
            *count += 1;
            assert!(*count <= bound, "client {other} waits while client {client} has {count} turns");
        }
        if let Some((waiting, turns)) = self.turns.get_mut(&client) {
            *waiting -= usize::from(waited);
            turns.clear();
            if *waiting == 0 {
                self.turns.remove(&client);
            }
        }
    }

    /// Everything has come to its end; `left` says of each client whether it is known not to hear any more.
    pub(super) fn settle(&self, left: impl Fn(usize) -> bool, drained: bool) {
        assert_eq!(self.accepted, self.answered);
        for (client, calls) in self.calls.iter().enumerate() {
            for (serial, call) in calls.iter().enumerate() {
                assert_eq!(call.is_accepted, call.is_answered, "{client}/{serial} was not answered: {call:?}");
                assert_eq!(call.is_begun, call.is_done, "{client}/{serial} hangs: {call:?}");
                if !left(client) {
                    assert!(call.is_accepted || drained, "{client}/{serial} was not accepted: {call:?}");
                    assert_eq!(call.is_accepted, call.is_told, "{client}/{serial} was not told: {call:?}");
                }
                let runs = call.is_done || call.is_ended || call.is_refused;
                assert!(!call.is_accepted || runs, "{client}/{serial}: {call:?}");
                let cut = call.is_ended && call.procedure == TO_END as u8 && left(client) && !call.is_done;
                assert!(
                    !cut || call.deadline.is_some() || drained || call.is_cancelled,
                    "{client}/{serial} did not run to its end"
                );
            }
        }
        assert!(self.turns.is_empty());
    }
}
