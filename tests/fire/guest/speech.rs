//! Guests that speak MessagePack-RPC throughout: the same calls, and the trouble that one can make with messages.

use std::time::{Duration, Instant};

use postroom_protocol::rpc::encode;
use rmpv::Value;

use super::{Guest, MAX_PACKET, refused};
use crate::menu::Dish;
use crate::messages;

impl Guest<'_> {
    /// Calls and trouble.
    pub(super) fn stays_in_messages(&mut self) {
        for _ in 0..self.chance.within(1..30) {
            if self.is_over() {
                return;
            }
            match self.chance.within(0..100) {
                0..45 => {
                    for _ in 0..self.chance.within(1..12) {
                        self.calls();
                    }
                }
                45..47 => self.floods(),
                47..57 => self.notifies(),
                57..62 => self.responds(),
                62..65 => self.sends_a_message_too_big(),
                65..68 => self.stops_reading(),
                68..75 => self.waits_for_answers(),
                75..79 => self.repeats(),
                79..81 => self.asks_for_too_much(),
                _ => {
                    let wait = self.chance.within(0..5_000);
                    self.pump(Duration::from_micros(wait));
                }
            }
            self.pump(Duration::ZERO);
        }
    }

    /// One of the ways in which a connection ends.
    pub(super) fn leaves_in_messages(&mut self) {
        if self.is_over() {
            return self.settles();
        }
        match self.chance.within(0..100) {
            0..22 => {
                self.waits_for_answers();
            }
            22..36 => {
                self.ledger.tally.fault("half-close");
                self.line.half_close();
                self.waits_for_the_end(false);
            }
            36..44 => {
                self.ledger.tally.fault("half-close within a message");
                self.sends_half_a_message();
                self.line.half_close();
                self.waits_for_the_end(false);
            }
            44..58 => {
                self.ledger.tally.fault("vanished");
                if self.chance.one_in(2) {
                    self.line.reset_at_end();
                }
            }
            58..65 => {
                self.ledger.tally.fault("vanished within a message");
                self.sends_half_a_message();
                self.pump(Duration::from_millis(1));
            }
            65..72 => {
                self.ledger.tally.fault("packets behind MessagePack-RPC");
                let dish = self.menu.quick(&mut self.chance, 0);
                let bytes = crate::support::packet(self.header(&dish), &dish.arguments);
                self.lies(bytes, "protocol");
            }
            72..79 => {
                self.ledger.tally.fault("message that breaks off with what is no MessagePack");
                let dish = self.menu.quick(&mut self.chance, 0);
                let header = self.header(&dish);
                let mut bytes = vec![0x94, 0];
                bytes.push(0xce);
                bytes.extend(header.serial.to_be_bytes());
                bytes.push(0xc1);
                self.owes(header, Dish { expects: refused(&["protocol"]), ..dish }, false);
                self.lies(bytes, "protocol");
            }
            79..86 => {
                self.ledger.tally.fault("message far over the limit");
                let dish = self.menu.quick(&mut self.chance, 0);
                let header = self.header(&dish);
                let mut bytes = vec![0x94, 0, 0xce];
                bytes.extend(header.serial.to_be_bytes());
                bytes.push(0xdb);
                bytes.extend((16 * MAX_PACKET + 1).to_be_bytes());
                self.owes(header, Dish { expects: refused(&["too_large"]), ..dish }, false);
                self.lies(bytes, "too_large");
            }
            86..92 => {
                self.ledger.tally.fault("message whose type means nothing");
                let message = vec![7.into(), 0.into(), "echo.echo".into(), Value::Nil];
                self.lies(crate::support::encode(&Value::Array(message)), "protocol");
            }
            92..97 => {
                self.ledger.tally.fault("message that does not end");
                self.provoked = Some("packet_timeout");
                self.sends_half_a_message();
                self.waits_for_the_end(true);
            }
            _ => {
                self.ledger.tally.fault("left replies unread for long");
                self.line.reads = false;
                for id in 0..self.chance.within(10..80) {
                    let dish = self.menu.big(&mut self.chance, id);
                    self.call(dish);
                }
                let until = Instant::now() + Duration::from_millis(self.chance.within(100..1_500));
                while Instant::now() < until {
                    self.pump(until - Instant::now());
                }
                self.line.reads = true;
                self.waits_for_answers();
            }
        }
        if self.is_over() {
            self.settles();
        }
    }

    /// Calls that nothing comes back for, good ones and bad ones.
    fn notifies(&mut self) {
        for _ in 0..self.chance.within(1..20) {
            self.ledger.tally.fault("notification");
            self.place += 1;
            let id = self.id();
            let dish = self.menu.quick(&mut self.chance, id);
            let mut bytes = messages::notification(&dish);
            if self.chance.one_in(5) {
                bytes.clear();
                let method = *self.chance.pick(&["nobody.home", "close", "", "directory/0.describe"]);
                encode::notification(method, &dish.arguments, &mut bytes);
            }
            self.line.send(bytes);
        }
    }

    /// To nothing that was asked.
    fn responds(&mut self) {
        self.ledger.tally.fault("response to nothing");
        let mut bytes = Vec::new();
        encode::response(self.chance.below(100) as u32, &[0xc3], &mut bytes);
        self.line.send(bytes);
    }

    /// A message over the limit, whole.
    fn sends_a_message_too_big(&mut self) {
        if self.line.portion < 100 {
            return;
        }
        self.ledger.tally.fault("message over the limit");
        let body = MAX_PACKET as usize + self.chance.below(4 * MAX_PACKET as usize);
        let dish = self.menu.quick(&mut self.chance, 0);
        let arguments = crate::support::encode(&Value::Array(vec![Value::Binary(vec![7; body])]));
        let dish = Dish { arguments, expects: refused(&["too_large"]), ..dish };
        let header = self.header(&dish);
        self.line.send(messages::request(header.serial, &dish));
        self.owes(header, dish, false);
    }

    /// Some but not all bytes of a request.
    fn sends_half_a_message(&mut self) {
        let dish = self.menu.quick(&mut self.chance, 0);
        let mut bytes = messages::request(self.serial, &dish);
        bytes.truncate(1 + self.chance.below(bytes.len() - 1));
        self.line.send(bytes);
        self.is_within_packet = true;
    }
}
