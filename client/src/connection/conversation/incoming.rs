//! What came in: taken apart, and each packet given to whom it is for.
//!
//! All replies of one read are handed out under one lock, and their callers woken after it.

use postroom_protocol::keepalive::{self, Keepalive};
use postroom_protocol::{Error, Header, Packet, PacketType, Payload, Step};

use super::Conversation;
use crate::error::CloseCause;
use crate::exchange::{Link, State};

impl Conversation {
    /// Takes input apart and completes the calls that it answers.
    pub(super) fn take_in(&mut self, link: &Link, mut input: &[u8]) -> Result<(), CloseCause> {
        let mut ignored = None;
        let mut state = link.lock();
        let result = loop {
            let taken = match self.splitter.next(&mut input, 0) {
                Ok(Step::NeedInput) => break Ok(()),
                // By reference: copied right after it was written, field by field, it would wait for that.
                Ok(Step::Packet(Packet { ref header, payload, .. })) => {
                    match self.take_packet(&mut state, header, payload) {
                        Ok(true) => continue,
                        taken => taken.map(|known| (known, *header)),
                    }
                }
                Ok(Step::TooLarge(too_large)) if self.greeting.is_open() => {
                    Err(CloseCause::Protocol(format!("{too_large}; {}", self.greeting.sample())))
                }
                Ok(Step::TooLarge(too_large)) if too_large.skipped => {
                    let error = Error::too_large(too_large.length, "max_reply", too_large.limit);
                    Ok((state.refuse_answer(&too_large.header, error), too_large.header))
                }
                Ok(Step::TooLarge(too_large)) => Err(CloseCause::Protocol(too_large.to_string())),
                Err(error) if self.greeting.is_open() => {
                    Err(CloseCause::Protocol(format!("{error}; {}", self.greeting.sample())))
                }
                Err(error) => Err(CloseCause::Protocol(error.to_string())),
            };
            match taken {
                Ok((true, _)) => {}
                Ok((false, header)) => ignored = Some(header),
                Err(cause) => break Err(cause),
            }
        };
        state.launch_waiting();
        state.swap_wakers(&mut self.wakers);
        drop(state);
        self.wake();
        if let Some(header) = ignored {
            log::debug!(peer = &*self.peer, header:? = header; "ignored packets that nobody waits for, this last");
        }
        result
    }

    /// True if somebody wanted the packet.
    #[inline]
    fn take_packet(&mut self, state: &mut State, header: &Header, payload: Payload<'_>) -> Result<bool, CloseCause> {
        if header.packet_type == PacketType::Reply && *header != Header::ANNOUNCEMENT && !self.greeting.is_open() {
            return Ok(state.answer(header, payload));
        }
        if let Some(packet) = keepalive::classify(header) {
            if packet == Keepalive::Ping {
                state.push_control(&keepalive::pong());
            }
            return Ok(true);
        }
        match header.packet_type {
            PacketType::Reply if *header == Header::ANNOUNCEMENT => Err(match Error::decode(&payload) {
                Ok(error) => CloseCause::Announced(error),
                Err(error) => CloseCause::Protocol(format!("its announced close does not decode: {error}")),
            }),
            PacketType::Event if !self.greeting.is_open() => Ok(state.event(header, &payload)),
            _ if !self.greeting.is_open() => Ok(false),
            _ => match self.greeting.take(header, &payload) {
                Ok(true) => Ok(true),
                Ok(false) => Err(CloseCause::Protocol(self.greeting.sample())),
                Err(how) => Err(CloseCause::Protocol(how)),
            },
        }
    }
}
