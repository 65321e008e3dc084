//! In which form the answer to a call goes out; it travels with the call.
//!
//! Whoever answers a call, with the result of its handler or an error of the service, writes the answer here: a whole
//! packet, a whole message of MessagePack-RPC, or nothing. Where answers go from there is not this module's affair.

use postroom_protocol::{Error, Header, Status, codec, libvirt, packet, rpc, xdr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blob;
use crate::job::Payload;
use crate::program::Codec;
use crate::stats::outcome::Verdict;

/// So many characters are left of the message of an error that is too long for a packet: with its code and its header
/// it fits the smallest `max_packet`.
const SHORT: usize = 100;

/// How the answer to a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a packet, with a payload in the codec of the program.
    Packet(Codec),
    /// As a response of MessagePack-RPC, to the request whose id is the serial of the call.
    Response,
    /// Not at all: the call came as a notification. How it ended is counted.
    Nothing,
}

impl Form {
    /// Decodes the arguments of a call that is answered in this form.
    ///
    /// # Errors
    ///
    /// What the client is told of arguments that do not decode.
    pub(crate) fn decode<T: DeserializeOwned>(self, payload: &Payload) -> Result<T, Error> {
        match payload.whole() {
            None => self.decode_bytes(payload),
            Some(whole) => blob::decoding(whole, || self.decode_bytes(payload)),
        }
    }

    #[inline(always)]
    fn decode_bytes<T: DeserializeOwned>(self, payload: &[u8]) -> Result<T, Error> {
        match self {
            Self::Packet(Codec::MessagePack) | Self::Response | Self::Nothing => {
                codec::decode(payload).map_err(|error| Error::invalid_arguments(error.to_string()))
            }
            Self::Packet(Codec::Xdr) => {
                xdr::decode(payload).map_err(|error| Error::invalid_arguments(error.to_string()))
            }
        }
    }

    /// Writes the answer to the call with this header behind what `out` holds.
    pub(crate) fn answer<T: Serialize>(
        self,
        header: &Header,
        outcome: Result<T, Error>,
        max_packet: u32,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let value = match outcome {
            Ok(value) => value,
            Err(error) => return self.answer_error(header, &error, max_packet, out),
        };
        let start = match self {
            Self::Packet(_) => packet::begin(&header.reply(Status::Ok), out),
            Self::Response => rpc::encode::begin_response(header.serial, out),
            Self::Nothing => return Verdict::OK,
        };
        let encoded = match self {
            Self::Packet(Codec::Xdr) => xdr::encode(&value, out).map_err(|error| error.to_string()),
            _ => codec::encode(&value, out).map_err(|error| error.to_string()),
        };
        let length = out.len() - start;
        if let Err(error) = encoded {
            out.truncate(start);
            let incident = crate::incident::next();
            log::error!("the result of a handler cannot be encoded: {error}; incident {incident}");
            self.answer_error(header, &Error::internal(incident), max_packet, out)
        } else if length > max_packet as usize {
            out.truncate(start);
            let error = Error::too_large(length as u64, "max_packet", u64::from(max_packet));
            self.answer_error(header, &error, max_packet, out)
        } else {
            match self {
                Self::Packet(_) => packet::finish(start, out),
                Self::Response | Self::Nothing => rpc::encode::finish_response(start, out),
            }
            Verdict::OK
        }
    }

    /// Writes that the call with this header has failed, in no more than `max_packet` bytes.
    pub(crate) fn answer_error(self, header: &Header, error: &Error, max_packet: u32, out: &mut Vec<u8>) -> Verdict {
        let start = out.len();
        self.error(header, error, out);
        if out.len() - start > max_packet as usize {
            // A client that takes no longer packets still learns the code, and the beginning of what is to be said.
            out.truncate(start);
            let message: String = error.message().chars().take(SHORT).collect();
            let message = format!("{message}… (cut: over max_packet = {max_packet} bytes)");
            let short = Error::new(error.code().clone(), message);
            let short = match (self, error.details()) {
                // Of details only numbers travel in XDR.
                (Self::Packet(Codec::Xdr), Some(details)) => short.with_details(details),
                _ => short,
            };
            self.error(header, &short, out);
        }
        Verdict::of(error)
    }

    /// Writes that the call with this header has failed, for an error of the service's own, which is short.
    pub(crate) fn error(self, header: &Header, error: &Error, out: &mut Vec<u8>) {
        match self {
            Self::Packet(Codec::MessagePack) => postroom_protocol::encode_reply_error(header, error, out),
            Self::Packet(Codec::Xdr) => libvirt::encode_reply_error(header, error, out),
            Self::Response => rpc::encode::error(header.serial, error, out),
            Self::Nothing => {}
        }
    }
}
