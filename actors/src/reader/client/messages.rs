//! What becomes of messages of MessagePack-RPC: the same as of packets that mean the same.
//!
//! A request is a call whose answer is a response, a notification a call whose answer is thrown away. Nothing is
//! decoded here but the array around the arguments.

use bytes::Bytes;
use postroom_protocol::rpc::{Format, Head, Message, MessageType, ScanError, Step, TooLarge, arguments, encode};
use postroom_protocol::{Code, Error, Header, PacketType, Payload, Status, encode_announcement};

use super::incoming::Incoming;
use super::{Accept, Arguments, Client, Named, Phase, Sink};
use crate::form::Form;
use crate::limits::Key;
use crate::program::Codec;
use crate::stats::outcome::Verdict;
use crate::time::Instant;

impl Client {
    /// Takes what was read of a client that speaks MessagePack-RPC.
    pub(super) fn feed_messages(&mut self, mut rest: &[u8], now: Instant, sink: &mut impl Sink) {
        while matches!(self.phase, Phase::Open) {
            if self.is_full() && !rest.is_empty() {
                self.unsplit = Some((rest.into(), 0));
                break;
            }
            let Incoming::Messages(scanner) = &mut self.incoming else { break };
            // What was refused once is not answered again, whatever else is wrong with it.
            let was_refused = scanner.is_skipping();
            match scanner.next(&mut rest) {
                Ok(Step::NeedInput) => break,
                Ok(Step::Message(message)) => {
                    self.packet_done();
                    self.message(message, now, sink);
                }
                Ok(Step::TooLarge(too_large)) => {
                    self.first_packet_due = None;
                    self.too_large(&too_large);
                }
                Err(error) => {
                    self.first_packet_due = None;
                    let reason = match error {
                        ScanError::TooLong { length, limit, .. } => too_large_error(length, limit),
                        _ => Error::protocol(error.to_string()),
                    };
                    if !was_refused {
                        self.refuse_message(error.head(), &reason);
                    }
                    self.close(Some(reason));
                }
            }
        }
    }

    fn message(&mut self, message: Payload<'_>, now: Instant, sink: &mut impl Sink) {
        let (msgid, method, params) = match Message::parse(&message) {
            Ok(Message::Request { msgid, method, params }) => (Some(msgid), method, params),
            Ok(Message::Notification { method, params }) => (None, method, params),
            Ok(Message::Response { .. }) => return self.ignored_response(),
            Err(error) => {
                let reason = Error::protocol(error.to_string());
                if !self.refuse_message(error.head, &reason) {
                    self.close(Some(reason));
                }
                return;
            }
        };
        let form = if msgid.is_some() { Form::Response } else { Form::Nothing };
        let serial = msgid.unwrap_or(0);
        let called = sink.find_method(method).and_then(|named| match named.found.codec {
            Codec::MessagePack => match arguments(params) {
                Ok(arguments) => Ok((named, arguments.len())),
                Err(error) => Err(Error::invalid_arguments(error.to_string())),
            },
            codec => Err(Error::unsupported(format!(
                "{method} takes and gives {codec}, which MessagePack-RPC cannot carry; call it by packets"
            ))),
        });
        let (named, length) = match called {
            Ok(called) => called,
            Err(error) => return self.refuse(form, &unknown(serial), &error),
        };
        let Named { found, program, version, procedure } = named;
        let header = Header { program, version, procedure, ..unknown(serial) };
        // A message is at most `max_packet` long, which is a u32.
        let cost = message.len() as u32;
        // The arguments are the end of the message.
        let skip = message.len() - length;
        let arguments = match message {
            Payload::Borrowed(bytes) => Arguments::Borrowed(&bytes[skip..]),
            Payload::Assembled(assembled) => {
                let (bytes, offset) = assembled.into_vec_and_offset();
                Arguments::Owned(Bytes::from(bytes).slice(offset + skip..))
            }
        };
        let deadline = self.default_deadline.map(|deadline| now + deadline);
        let (entry, ties) = (found.entry, None);
        self.admit(&Accept { header, entry, form, cost, received: now, deadline, ties }, arguments, sink);
    }

    fn too_large(&mut self, too_large: &TooLarge) {
        self.stats.limit(Key::max_packet);
        let error = too_large_error(too_large.length, too_large.limit);
        let is_told = self.refuse_message(too_large.head, &error);
        if !too_large.skipped || !is_told {
            self.close(Some(error));
        }
    }

    /// Answers a message that is none, as far as it can be answered. False when its sender has to be told otherwise:
    /// it cannot be known what it was.
    fn refuse_message(&mut self, head: Head, error: &Error) -> bool {
        match head {
            Head { message_type: Some(MessageType::Request), msgid: Some(msgid) } => {
                self.refuse(Form::Response, &unknown(msgid), error);
                true
            }
            Head { message_type: Some(MessageType::Notification), .. } => {
                self.refuse(Form::Nothing, &unknown(0), error);
                true
            }
            Head { message_type: Some(MessageType::Response), .. } => {
                self.ignored_response();
                true
            }
            Head { .. } => {
                self.stats.refused(Verdict::of(error));
                false
            }
        }
    }

    /// The service calls nobody, so there is nothing to respond to.
    fn ignored_response(&self) {
        self.stats.ignored();
        log::debug!(client = self.peer.client_id(); "ignored a response");
    }

    /// The last word, in the format of the client; to one that has said nothing, in packets.
    pub(super) fn announcement(&self, reason: &Error) -> Bytes {
        let mut bytes = Vec::new();
        match self.format {
            Format::Packets => encode_announcement(reason, &mut bytes),
            Format::MessagePackRpc => encode::close(reason, &mut bytes),
        }
        bytes.into()
    }
}

/// What stands for the header of a message that names no procedure: its id.
fn unknown(serial: u32) -> Header {
    Header { program: 0, version: 0, procedure: 0, packet_type: PacketType::Call, serial, status: Status::Ok }
}

fn too_large_error(length: u64, limit: u32) -> Error {
    let message = format!("the message has at least {length} bytes, and max_packet is {limit}");
    Error::new(Code::TOO_LARGE, message).with_limit("max_packet", limit)
}
