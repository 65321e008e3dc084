//! The part of the program `directory` that a client speaks: the greeting, and the list of names.
//!
//! The connection sends the greeting; names are asked for when a call is made by name. Nothing is kept here.

use std::collections::BTreeMap;

use postroom_protocol::event::Overflow;
use postroom_protocol::limits::DEFAULT_MAX_PACKET;
use postroom_protocol::{EncodeError, Header, PacketType, Status, codec, packet};
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::exchange::{GREETING_SERIAL, Limits};
use crate::procedure::Procedure;

/// The number of the program: `dire`.
const PROGRAM: u32 = 0x6469_7265;
const VERSION: u32 = 1;
const HELLO: Procedure = Procedure::new(PROGRAM, VERSION, 1);
pub(crate) const DESCRIBE: Procedure = Procedure::new(PROGRAM, VERSION, 2);

pub(crate) const SUBSCRIBE: Procedure = Procedure::new(PROGRAM, VERSION, 4);
pub(crate) const UNSUBSCRIBE: Procedure = Procedure::new(PROGRAM, VERSION, 5);

/// What services allow that do not say otherwise.
const DEFAULT_MAX_CLIENT_REQUESTS: u32 = 256;

#[derive(Debug, Serialize)]
struct Hello<'a> {
    client: &'a str,
    version: &'a str,
}

/// What a service says of itself when a client connects.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// The name of the service.
    pub service: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The number by which the service knows this connection, also in its log.
    #[serde(default)]
    pub client_id: u64,
    /// The service's limits, by their configuration keys: numbers, bytes, or milliseconds.
    #[serde(default, deserialize_with = "numbers")]
    pub limits: BTreeMap<String, u64>,
    /// What the service can do beyond plain calls.
    #[serde(default)]
    pub features: Vec<String>,
}

impl ServiceInfo {
    /// The limits that this client keeps, and `max_in_flight`, its own.
    pub(crate) fn limits(&self, max_in_flight: u32) -> Limits {
        let limit = |key: &str, default: u32| match self.limits.get(key) {
            Some(value) => u32::try_from(*value).unwrap_or(u32::MAX),
            None => default,
        };
        Limits {
            max_packet: limit("max_packet", DEFAULT_MAX_PACKET),
            // A limit of none would let every call wait for ever.
            max_in_flight: limit("max_client_requests", DEFAULT_MAX_CLIENT_REQUESTS).min(max_in_flight).max(1),
        }
    }
}

/// A later version may have limits that are no numbers: those are left out, and the greeting still decodes.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Number(u64),
        Other(IgnoredAny),
    }
    let limits = BTreeMap::<String, Lenient>::deserialize(deserializer)?;
    Ok(limits
        .into_iter()
        .filter_map(|(key, value)| match value {
            Lenient::Number(number) => Some((key, number)),
            Lenient::Other(IgnoredAny) => None,
        })
        .collect())
}

/// What `describe` tells, as far as names need it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Description {
    pub(crate) programs: Vec<ProgramDescription>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProgramDescription {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) version: u32,
    /// How its payloads are encoded, where the service says so.
    #[serde(default)]
    pub(crate) codec: Option<String>,
    #[serde(default)]
    pub(crate) procedures: Vec<ProcedureDescription>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProcedureDescription {
    pub(crate) number: i32,
    pub(crate) name: String,
}

#[derive(Debug, Serialize)]
struct Subscribe<'a> {
    program: &'a str,
    event: &'a str,
    overflow: Overflow,
    queue: u32,
}

/// A subscription that the service has opened, and with which it ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Subscribed {
    subscription: u32,
}

/// The arguments of the call that opens a subscription.
pub(crate) fn subscribe(program: &str, event: &str, overflow: Overflow, queue: u32) -> Result<Vec<u8>, EncodeError> {
    let mut payload = Vec::new();
    codec::encode(&Subscribe { program, event, overflow, queue }, &mut payload)?;
    Ok(payload)
}

/// The number of the subscription that such a call was answered with.
pub(crate) fn subscription(reply: &[u8]) -> Option<u32> {
    codec::decode(reply).ok().map(|Subscribed { subscription }| subscription)
}

/// The arguments of the call that ends a subscription.
pub(crate) fn unsubscribe(subscription: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    let encoded = codec::encode(&Subscribed { subscription }, &mut payload);
    debug_assert!(encoded.is_ok(), "a number must encode: {encoded:?}");
    payload
}

/// The first packet of a connection.
pub(crate) fn greeting(client: &str, version: &str) -> Vec<u8> {
    let header = Header {
        program: HELLO.program,
        version: HELLO.version,
        procedure: HELLO.number,
        packet_type: PacketType::Call,
        serial: GREETING_SERIAL,
        status: Status::Ok,
    };
    let mut bytes = Vec::new();
    let start = packet::begin(&header, &mut bytes);
    let encoded = codec::encode(&Hello { client, version }, &mut bytes);
    debug_assert!(encoded.is_ok(), "two strings must encode: {encoded:?}");
    packet::finish(start, &mut bytes);
    bytes
}

/// Whether `header` is that of the reply to the greeting.
pub(crate) fn answers_greeting(header: &Header) -> bool {
    header.packet_type == PacketType::Reply
        && header.serial == GREETING_SERIAL
        && (header.program, header.version, header.procedure) == (HELLO.program, HELLO.version, HELLO.number)
}
