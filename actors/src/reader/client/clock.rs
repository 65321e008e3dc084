//! What time brings to a client: timeouts, pings, and the end of those that do not answer.

use std::time::Duration;

use bytes::Bytes;
use postroom_protocol::{Code, Error, keepalive};

use super::{Client, Phase};
use crate::limits::Key;
use crate::time::{Instant, earlier};

impl Client {
    /// When [`Self::expire`] is to be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.is_gone() {
            return None;
        }
        let write = (!self.output.is_empty()).then(|| self.written_at + self.limits.write_timeout);
        let read = match self.phase {
            Phase::Lingering(until) => Some(until),
            // While the service does not read a client, no time runs against what it sends.
            Phase::Open if !self.is_full() => {
                let packet = self.packet_since.map(|since| since + self.limits.packet_timeout);
                earlier(earlier(packet, self.first_packet_due), earlier(self.ping_due(), self.idle_until()))
            }
            _ => None,
        };
        earlier(write, read)
    }

    /// Time has passed: ends what has taken too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.is_gone() {
            return;
        }
        let past = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if !self.output.is_empty() && self.written_at + self.limits.write_timeout <= now {
            // It cannot be told: it does not read.
            self.stats.limit(Key::write_timeout);
            log::info!(
                client = self.peer.client_id();
                "cut: it left {} bytes of replies unread for write_timeout = {:?}",
                self.output.len(),
                self.limits.write_timeout
            );
            self.phase = Phase::Broken;
        }
        match self.phase {
            Phase::Lingering(until) if until <= now => self.phase = Phase::Done,
            Phase::Open if !self.is_full() => {
                if past(self.first_packet_due) {
                    self.stats.limit(Key::first_packet_timeout);
                    self.close(Some(packet_timeout("first_packet_timeout", self.limits.first_packet_timeout)));
                } else if past(self.packet_since.map(|since| since + self.limits.packet_timeout)) {
                    self.stats.limit(Key::packet_timeout);
                    self.close(Some(packet_timeout("packet_timeout", self.limits.packet_timeout)));
                } else if past(self.idle_until()) {
                    self.stats.limit(Key::idle_timeout);
                    self.close(Some(Error::idle_timeout("idle_timeout", self.limits.idle_timeout)));
                } else if past(self.ping_due()) {
                    self.ping(now);
                }
            }
            _ => {}
        }
    }

    /// When the next ping is due, or the last one was not answered for too long.
    fn ping_due(&self) -> Option<Instant> {
        let interval = self.limits.keepalive_interval;
        // Counted from the last ping, not from when the client was heard: where the process was stopped for long, each
        // ping still leaves the time for an answer.
        let since = if self.pings == 0 { self.heard_at } else { self.pinged_at };
        (self.takes_pings && !interval.is_zero()).then(|| since + interval)
    }

    /// When the connection has been idle for too long.
    fn idle_until(&self) -> Option<Instant> {
        let limit = self.limits.idle_timeout;
        let is_idle = self.in_progress == 0 && self.backlog.is_empty() && self.packet_since.is_none();
        let is_idle = is_idle && self.outlet.is_none();
        (!limit.is_zero() && is_idle).then(|| self.active_at + limit)
    }

    /// A ping is due. A client that has left as many as `keepalive_count` unanswered is dead.
    fn ping(&mut self, now: Instant) {
        if !self.output.is_empty() {
            // A ping would wait behind what the client has not read: `write_timeout` says whether it still does.
            (self.heard_at, self.pings) = (now, 0);
            return;
        }
        if self.pings < self.limits.keepalive_count {
            (self.pinged_at, self.pings) = (now, self.pings + 1);
            return self.push(Bytes::copy_from_slice(&keepalive::ping()), 0, now);
        }
        self.stats.limit(Key::keepalive_count);
        let silent = now.saturating_duration_since(self.heard_at).as_secs_f32();
        let reason = Error::new(
            Code::KEEPALIVE_TIMEOUT,
            format!("nothing came for {silent:.1} s, nor an answer to {} pings", self.pings),
        )
        .with_limit("keepalive_count", self.limits.keepalive_count);
        log::info!(client = self.peer.client_id(); "closing: {reason}");
        self.push(self.announcement(&reason), 0, now);
        self.phase = Phase::Cut;
    }
}

fn packet_timeout(key: &'static str, limit: Duration) -> Error {
    Error::packet_timeout(key, limit)
}
