//! How things stand between the callers and the connection, and what each of them may do to that.
//!
//! See the module above for the states of a call and the bounds.

mod callers;
mod connection;
mod subscriptions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use postroom_protocol::{Error, Header, Metadata, PacketType, Status, metadata, packet};
use tokio::time::Instant;

use super::calls::{Call, Phase as CallPhase, Role};
use super::inboxes::Inboxes;
use super::slots::Slots;
use crate::directory::ServiceInfo;
use crate::error::{CallError, CloseReason, ConnectError};

/// How many bytes wait for the socket before further calls wait for them; one packet may go over it.
pub(crate) const MAX_OUTPUT: usize = 1024 * 1024;

/// Whether there is a connection.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Not yet, or not at the moment: calls wait.
    Connecting,
    /// The service has answered the greeting: calls are sent.
    Open,
    /// The last attempt failed in a way that calls do not wait for.
    Unreachable(ConnectError),
    /// Never again.
    Ended(CloseReason),
}

/// How the client is to end. The greater one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closing {
    /// When the calls in flight are answered.
    Gently,
    /// Now: nobody waits for anything.
    AtOnce,
}

/// What the service takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The greatest packet, its header included.
    pub(crate) max_packet: u32,
    /// How many calls may be unanswered at the same time.
    pub(crate) max_in_flight: u32,
}

/// The state that callers and the connection share.
#[derive(Debug)]
pub(crate) struct State {
    peer: Arc<str>,
    pub(crate) phase: Phase,
    pub(crate) closing: Option<Closing>,
    /// What the service said of itself when the last connection was made.
    pub(crate) service: Arc<ServiceInfo>,
    /// Wakes the task of the connection.
    pub(crate) driver: Option<Waker>,
    /// Whether that task sleeps and wants to know of output.
    parked: bool,
    limits: Limits,
    calls: Slots,
    inboxes: Inboxes,
    /// The calls that wait to be sent, in order. Some are gone already, see `n_gone`.
    waiting: VecDeque<u32>,
    n_gone: usize,
    in_flight: u32,
    /// The packets that the connection has not taken yet.
    output: Vec<u8>,
    /// How many bytes this connection has taken from `output`.
    taken: u64,
    /// Callers to be woken as soon as the lock is released.
    wakers: Vec<Waker>,
}

impl State {
    pub(crate) fn new(peer: Arc<str>) -> Self {
        Self {
            peer,
            phase: Phase::Connecting,
            closing: None,
            service: Arc::default(),
            driver: None,
            parked: false,
            limits: Limits { max_packet: 0, max_in_flight: 0 },
            calls: Slots::default(),
            inboxes: Inboxes::default(),
            waiting: VecDeque::new(),
            n_gone: 0,
            in_flight: 0,
            output: Vec::new(),
            taken: 0,
            wakers: Vec::new(),
        }
    }

    /// Sends what has waited, as far as there is room.
    #[inline]
    pub(crate) fn launch_waiting(&mut self) {
        while self.has_room()
            && let Some(serial) = self.waiting.pop_front()
        {
            match self.calls.get_mut(serial) {
                Some(Call { phase: CallPhase::Waiting, .. }) => {}
                _ => {
                    self.n_gone = self.n_gone.saturating_sub(1);
                    continue;
                }
            }
            if let Err(error) = self.launch(serial)
                && let Some(call) = self.calls.get_mut(serial)
            {
                self.wakers.extend(call.fail(error));
            }
        }
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.in_flight < self.limits.max_in_flight
            && self.output.len() < MAX_OUTPUT
            && matches!(self.phase, Phase::Open)
            && self.closing.is_none()
    }

    /// Appends the packet of a waiting call to the output.
    #[inline]
    fn launch(&mut self, serial: u32) -> Result<(), CallError> {
        let Some(call) = self.calls.get_mut(serial) else {
            return Ok(());
        };
        let start = self.output.len();
        if call.deadline.is_none() && call.metadata.is_none() {
            packet::begin(&header_of(call, PacketType::Call, serial), &mut self.output);
        } else {
            let left = call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                // Its caller's own timer is due and ends it; the service need not hear of it.
                return Ok(());
            }
            // What is left of the deadline now, at least a millisecond, since the service counts from its receipt.
            let deadline_ms =
                left.map(|left| u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX).max(1));
            packet::begin(&header_of(call, PacketType::CallWithMetadata, serial), &mut self.output);
            match &mut call.metadata {
                Some(metadata) => {
                    metadata.deadline_ms = deadline_ms;
                    metadata::encode(metadata, &mut self.output);
                }
                None => metadata::encode(&Metadata { deadline_ms, ..Metadata::default() }, &mut self.output),
            }
        }
        let length = (self.output.len() - start + call.payload.len()) as u64;
        if length > u64::from(self.limits.max_packet) {
            self.output.truncate(start);
            return Err(CallError::Refused(Error::too_large(length, "max_packet", self.limits.max_packet)));
        }
        self.output.extend_from_slice(&call.payload);
        packet::finish(start, &mut self.output);
        call.position = self.taken + start as u64;
        call.phase = match call.role {
            Role::Unsubscribe => CallPhase::Abandoned,
            Role::Plain | Role::Subscribe(_) => CallPhase::Flying,
        };
        self.in_flight += 1;
        Ok(())
    }
}

fn header_of(call: &Call, packet_type: PacketType, serial: u32) -> Header {
    let procedure = call.procedure;
    Header {
        program: procedure.program,
        version: procedure.version,
        procedure: procedure.number,
        packet_type,
        serial,
        status: Status::Ok,
    }
}
