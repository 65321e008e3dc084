//! What the task of the connection does: take output, bring answers, say how things stand.

use std::sync::Arc;
use std::task::Waker;

use postroom_protocol::{Error, HEADER_LEN, Header, Payload, Status};

use super::{CallPhase, Limits, MAX_OUTPUT, Phase, Role, State};
use crate::directory::{self, ServiceInfo};
use crate::error::{CallError, CloseReason};

/// From how many calls in flight on, and up to how much output, more is expected.
const BUSY_FROM: u32 = 4;
const BUSY_UNTIL: usize = 16 * 1024;

/// A buffer that is this much greater than the reply in it is not kept for it.
const BUFFER_SLACK: usize = 4096;

impl State {
    /// A new connection begins with this packet.
    pub(crate) fn begin(&mut self, greeting: &[u8]) {
        self.output.clear();
        self.taken = 0;
        self.output.extend_from_slice(greeting);
    }

    /// The service has answered the greeting: what has waited is sent.
    pub(crate) fn open(&mut self, limits: Limits, service: ServiceInfo) {
        self.limits = limits;
        self.service = Arc::new(service);
        self.phase = Phase::Open;
        self.launch_waiting();
    }

    /// Moves the output to `empty`, and puts calls that have waited for room in its place.
    #[inline]
    pub(crate) fn take_output(&mut self, empty: &mut Vec<u8>) {
        self.parked = false;
        self.taken += self.output.len() as u64;
        std::mem::swap(&mut self.output, empty);
        self.launch_waiting();
    }

    /// Appends a keepalive packet to the output.
    ///
    /// A peer that asks and does not read what it is answered gets no more answers than fit.
    pub(crate) fn push_control(&mut self, packet: &[u8; HEADER_LEN]) {
        if self.output.len() < MAX_OUTPUT {
            self.output.extend_from_slice(packet);
        }
    }

    /// Whether the connection's task may sleep. If not, there is output that it can write.
    pub(crate) fn park(&mut self, can_write: bool) -> bool {
        if can_write && !self.output.is_empty() {
            return false;
        }
        self.parked = can_write;
        true
    }

    /// Keeps the waker of the connection's task. The old one is to be dropped after the lock is released.
    pub(crate) fn set_driver(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.driver {
            Some(driver) if driver.will_wake(waker) => None,
            _ => self.driver.replace(waker.clone()),
        }
    }

    /// Hands a reply to its call. False if no call waits for it.
    #[inline]
    pub(crate) fn answer(&mut self, header: &Header, payload: Payload<'_>) -> bool {
        let Some(call) = self.calls.get_mut(header.serial) else {
            return false;
        };
        let procedure = call.procedure;
        if (header.program, header.version, header.procedure)
            != (procedure.program, procedure.version, procedure.number)
        {
            return false;
        }
        let opened = match call.role {
            Role::Subscribe(key) if header.status == Status::Ok => Some((key, directory::subscription(&payload))),
            _ => None,
        };
        match call.phase {
            CallPhase::Flying => {
                match payload {
                    Payload::Borrowed(bytes) => {
                        // The buffer of the arguments, which are needed no more, takes the reply.
                        refill(&mut call.payload, bytes);
                        call.offset = 0;
                    }
                    Payload::Assembled(assembled) => (call.payload, call.offset) = assembled.into_vec_and_offset(),
                }
                call.is_error = header.status != Status::Ok;
                call.phase = CallPhase::Done;
                self.wakers.extend(call.waker.take());
            }
            CallPhase::Abandoned => {
                self.calls.remove(header.serial);
            }
            CallPhase::Waiting | CallPhase::Done => return false,
        }
        self.in_flight -= 1;
        if let Some((key, Some(serial))) = opened {
            self.subscribed(key, serial);
        }
        true
    }

    /// A reply came that this client does not take: its call fails with `error`. False if no call waits for it.
    pub(crate) fn refuse_answer(&mut self, header: &Header, error: Error) -> bool {
        let answered = self.answer(header, Payload::Borrowed(&[]));
        if answered && let Some(call) = self.calls.get_mut(header.serial) {
            // Its caller is woken for the answer.
            call.fail(CallError::Refused(error));
        }
        answered
    }

    /// The connection is lost, after `written` bytes; another will be made. Calls that were not sent and those that
    /// may be sent again, at most `max_resends` times, go back to the front of the queue; the others fail.
    pub(crate) fn lost(&mut self, reason: &CloseReason, written: u64, max_resends: u32) {
        self.phase = Phase::Connecting;
        self.parked = false;
        self.output.clear();
        self.in_flight = 0;
        let mut again = Vec::new();
        for serial in self.calls.serials() {
            let Some(call) = self.calls.get_mut(serial) else {
                continue;
            };
            match call.phase {
                CallPhase::Flying => {
                    let sent = call.position < written;
                    if !sent || (call.idempotent && call.resends < max_resends) {
                        call.resends += u32::from(sent);
                        call.phase = CallPhase::Waiting;
                        again.push((call.position, serial));
                    } else {
                        self.wakers.extend(call.fail(CallError::Closed(reason.clone())));
                    }
                }
                CallPhase::Abandoned => {
                    self.calls.remove(serial);
                }
                // What it was to end has ended with the connection.
                CallPhase::Waiting if call.role == Role::Unsubscribe => {
                    self.calls.remove(serial);
                    self.n_gone += 1;
                }
                CallPhase::Waiting | CallPhase::Done => {}
            }
        }
        self.inboxes.lost(reason, &mut self.wakers);
        again.sort_unstable();
        for (_, serial) in again.into_iter().rev() {
            self.waiting.push_front(serial);
        }
    }

    /// Every call that waits to be sent fails.
    pub(crate) fn fail_waiting(&mut self, error: &CallError) {
        for serial in std::mem::take(&mut self.waiting) {
            if let Some(call) = self.calls.get_mut(serial)
                && matches!(call.phase, CallPhase::Waiting)
            {
                if call.role == Role::Unsubscribe {
                    self.calls.remove(serial);
                    continue;
                }
                self.wakers.extend(call.fail(error.clone()));
            }
        }
        self.n_gone = 0;
    }

    /// Every call that is not done fails.
    pub(crate) fn fail_all(&mut self, error: &CallError) {
        self.fail_waiting(error);
        for serial in self.calls.serials() {
            let Some(call) = self.calls.get_mut(serial) else {
                continue;
            };
            match call.phase {
                CallPhase::Abandoned => {
                    self.calls.remove(serial);
                }
                CallPhase::Done => {}
                CallPhase::Flying | CallPhase::Waiting => {
                    self.wakers.extend(call.fail(error.clone()));
                }
            }
        }
        self.in_flight = 0;
        self.output = Vec::new();
        self.parked = false;
    }

    /// Whether nothing is in flight and nothing is on its way out.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.output.is_empty()
    }

    /// Whether there is output, and more of it to be expected at once.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight >= BUSY_FROM && !self.output.is_empty() && self.output.len() < BUSY_UNTIL
    }

    /// Whether the connection has taken all output.
    pub(crate) fn has_no_output(&self) -> bool {
        self.output.is_empty()
    }

    /// The callers to be woken after the lock is released.
    pub(in crate::exchange) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// The same, into a buffer that is used again and again.
    #[inline]
    pub(crate) fn swap_wakers(&mut self, empty: &mut Vec<Waker>) {
        std::mem::swap(&mut self.wakers, empty);
    }
}

/// Puts `bytes` into `buffer`, or a new one in its place if it would hold on to much more memory than the bytes need.
#[inline]
fn refill(buffer: &mut Vec<u8>, bytes: &[u8]) {
    if buffer.capacity() > bytes.len() + BUFFER_SLACK {
        *buffer = bytes.to_vec();
        return;
    }
    buffer.clear();
    buffer.extend_from_slice(bytes);
}
