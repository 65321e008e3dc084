//! What callers do: hand calls in, take results out, give calls up.

use std::task::Waker;

use postroom_protocol::{Error, PacketType, packet};

use super::{CallPhase, Phase, State, header_of};
use crate::error::{CallError, CloseCause, CloseReason};
use crate::exchange::calls::{Answer, Outgoing};
use crate::exchange::slots::MAX_CALLS;

impl State {
    /// Takes a call in: sends it if there is room, and lets it wait if there is none. Returns its serial. What it has is
    /// taken out of `outgoing`.
    #[inline]
    pub(in crate::exchange) fn submit(&mut self, outgoing: &mut Outgoing, waker: &Waker) -> Result<u32, CallError> {
        match &self.phase {
            Phase::Ended(reason) => return Err(CallError::Closed(reason.clone())),
            Phase::Unreachable(error) => return Err(CallError::Connect(error.clone())),
            Phase::Connecting | Phase::Open if self.closing.is_some() => {
                return Err(CallError::Closed(CloseReason::new(self.peer.clone(), CloseCause::ClosedHere)));
            }
            Phase::Connecting | Phase::Open => {}
        }
        let Some((serial, call)) = self.calls.insert() else {
            return Err(CallError::Refused(Error::overloaded("calls of one client", MAX_CALLS as u64, None)));
        };
        call.begin(outgoing, Some(waker.clone()));
        if !self.has_room() || !self.waiting.is_empty() {
            self.waiting.push_back(serial);
            return Ok(serial);
        }
        match self.launch(serial) {
            Ok(()) => Ok(serial),
            Err(error) => {
                self.calls.remove(serial);
                Err(error)
            }
        }
    }

    /// The result of the call, if it is there, which ends the call; else `waker` is kept for when it is.
    /// What is put into `old` is to be dropped after the lock is released.
    #[inline]
    pub(in crate::exchange) fn take(
        &mut self,
        serial: u32,
        waker: &Waker,
        old: &mut Option<Waker>,
    ) -> Option<Result<Answer, CallError>> {
        let call = self.calls.get_mut(serial)?;
        if call.phase == CallPhase::Done {
            *old = call.waker.take();
            let result = call.take();
            self.calls.remove(serial);
            return Some(result);
        }
        if !call.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *old = call.waker.replace(waker.clone());
        }
        None
    }

    /// The caller is gone. What is returned is to be dropped after the lock is released.
    pub(in crate::exchange) fn abandon(&mut self, serial: u32) -> Option<Waker> {
        let call = self.calls.get_mut(serial)?;
        let waker = call.waker.take();
        match call.phase {
            CallPhase::Flying => {
                call.phase = CallPhase::Abandoned;
                let header = header_of(call, PacketType::Cancel, serial);
                packet::encode_packet(&header, &[], &mut self.output);
            }
            CallPhase::Waiting => {
                self.calls.remove(serial);
                self.n_gone += 1;
                self.forget_gone();
            }
            CallPhase::Done | CallPhase::Abandoned => {
                self.calls.remove(serial);
            }
        }
        waker
    }

    /// The waker of the connection's task, if the task sleeps and there is output for it.
    #[inline]
    pub(in crate::exchange) fn unpark(&mut self) -> Option<Waker> {
        if !self.parked || self.output.is_empty() {
            return None;
        }
        self.parked = false;
        self.driver.clone()
    }

    /// Calls that are given up while they wait leave their place in the queue behind, and so that a client without
    /// connection does not collect those for ever, they are cleared when they are most of it.
    fn forget_gone(&mut self) {
        if self.n_gone < 32 || self.n_gone < self.waiting.len() / 2 {
            return;
        }
        let Self { waiting, calls, .. } = self;
        waiting.retain(|serial| calls.get_mut(*serial).is_some());
        self.n_gone = 0;
    }
}
