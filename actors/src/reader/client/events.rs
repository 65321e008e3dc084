//! Events on their way to one client: what the outlet holds goes into the output while that has room.

use bytes::Bytes;
use postroom_protocol::Error;

use super::{Client, Phase};
use crate::events::Described;
use crate::events::inlet::{Begin, To};
use crate::events::outlet::Overflowed;
use crate::limits::Key;
use crate::time::Instant;

/// Events go into the output while less than this waits there, so a reply that comes later is behind no more of them,
/// or behind one if that is bigger.
pub(crate) const ROOM: usize = 64 * 1024;

impl Client {
    /// The client has subscribed. False if it has left, or is about to be closed.
    pub(crate) fn subscribed(&mut self, begin: Begin, event: &Described) -> bool {
        let is_open = matches!(self.phase, Phase::Open);
        if is_open {
            self.outlet.get_or_insert_default().begin(begin, event, self.format);
        }
        is_open
    }

    /// A subscription has ended. The client is idle from now on if that was its last one and it makes no calls.
    pub(crate) fn unsubscribed(&mut self, subscription: u32, now: Instant) {
        if let Some(outlet) = &mut self.outlet {
            outlet.end(subscription);
            if outlet.is_empty() {
                self.outlet = None;
                self.active_at = now;
            }
        }
    }

    /// An event has come for a subscription. True when the client is to be closed for it.
    pub(crate) fn offer_event(&mut self, subscription: u32, to: To, value: &Bytes) -> bool {
        let Some(outlet) = &mut self.outlet else { return false };
        let taken = outlet.offer(subscription, to, value, self.limits.max_client_event_bytes);
        taken.map_err(|overflowed| self.overflowed(subscription, overflowed)).is_err()
    }

    /// There were so many events, and no more of them will come to a subscription. True when the client is to be
    /// closed for those that did not.
    pub(crate) fn catch_up_events(&mut self, subscription: u32, all: Option<u64>, own: Option<u64>) -> bool {
        let Some(outlet) = &mut self.outlet else { return false };
        let caught_up = outlet.catch_up(subscription, all, own);
        caught_up.map_err(|overflowed| self.overflowed(subscription, overflowed)).is_err()
    }

    /// Moves events into the output, as far as there is room for them.
    pub(crate) fn send_events(&mut self, now: Instant) {
        let Some(outlet) = self.outlet.as_mut().filter(|outlet| outlet.has_events()) else { return };
        let room = ROOM.saturating_sub(usize::try_from(self.output.len()).unwrap_or(ROOM));
        let pieces = outlet.take(room);
        if self.output.is_empty() {
            self.written_at = now;
        }
        for bytes in pieces.into_bytes() {
            self.output.push_events(bytes);
        }
    }

    /// Whether events wait for room in the output.
    pub(crate) fn has_events(&self) -> bool {
        self.outlet.as_ref().is_some_and(|outlet| outlet.has_events())
    }

    /// An event was dropped of a subscription whose client wants no gap.
    fn overflowed(&mut self, subscription: u32, overflowed: Overflowed) {
        let (key, name, value) = match overflowed {
            Overflowed::Queue(bound) => (Key::max_event_queue, "max_event_queue", bound),
            Overflowed::Bytes => {
                (Key::max_client_event_bytes, "max_client_event_bytes", self.limits.max_client_event_bytes)
            }
            Overflowed::Way => {
                (Key::max_published_events, "max_published_events", self.limits.max_published_events as u64)
            }
        };
        self.stats.limit(key);
        log::debug!(client = self.peer.client_id(); "its subscription {subscription} has lost an event: {name} = {value}");
        self.close(Some(Error::overloaded(name, value, None)));
    }
}
