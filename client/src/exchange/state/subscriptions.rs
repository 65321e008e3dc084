//! What the handles of subscriptions and the connection do with inboxes.

use std::task::Waker;

use postroom_protocol::event::Overflow;
use postroom_protocol::{Header, Payload};

use super::State;
use crate::directory;
use crate::error::CloseReason;
use crate::exchange::calls::{Outgoing, Role};
use crate::exchange::inboxes::{End, Incoming};

impl State {
    /// A new inbox, for a subscription that is about to be asked for. Returns its key.
    pub(crate) fn open_inbox(&mut self, bound: usize, overflow: Overflow) -> u64 {
        self.inboxes.open(bound, overflow)
    }

    /// The handle of a subscription is gone: the service is told, if it knows of it.
    pub(crate) fn close_inbox(&mut self, key: u64) {
        if let Some(serial) = self.inboxes.close(key) {
            self.unsubscribe(serial);
        }
    }

    /// The next event of an inbox, or why there will be none; else `waker` is kept for when there is. The second value
    /// is to be dropped after the lock is released.
    pub(crate) fn take_event(&mut self, key: u64, waker: &Waker) -> (Option<Result<Incoming, End>>, Option<Waker>) {
        self.inboxes.take(key, waker)
    }

    /// An event has come. False if it is of no subscription.
    pub(crate) fn event(&mut self, header: &Header, payload: &Payload<'_>) -> bool {
        let (known, waker) = self.inboxes.put(header.serial, || payload.to_vec());
        self.wakers.extend(waker);
        known
    }

    /// The client has ended.
    pub(crate) fn end_inboxes(&mut self, reason: &CloseReason) {
        self.inboxes.lost(reason, &mut self.wakers);
    }

    /// The service has opened a subscription.
    pub(super) fn subscribed(&mut self, key: u64, serial: u32) {
        if !self.inboxes.begin(key, serial) {
            self.unsubscribe(serial);
        }
    }

    /// Has the service end a subscription. Nobody waits for its reply.
    fn unsubscribe(&mut self, serial: u32) {
        // Were there no slot, the subscription would go on until the connection ends; its events are nobody's.
        let Some((place, call)) = self.calls.insert() else { return };
        let outgoing = Outgoing::new(directory::UNSUBSCRIBE, directory::unsubscribe(serial));
        call.begin(&mut Outgoing { role: Role::Unsubscribe, ..outgoing }, None);
        self.waiting.push_back(place);
        self.launch_waiting();
    }
}
