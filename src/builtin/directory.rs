//! The program `directory`: what a service is, what it serves, and who subscribes to what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message};
use postroom_actors::events::{ClientChange, Event, Overflow, SubscribeOptions, Subscription};
use postroom_actors::limits::{Limits, TABLE};
use postroom_actors::stats::{self, Stats};
use postroom_actors::{Call, Codec, Error, Procedure, Program};
use postroom_protocol::keepalive;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The number of the program: `dire`.
pub const NUMBER: u32 = 0x6469_7265;
/// Its version.
pub const VERSION: u32 = 1;

/// What the directory tells.
#[derive(Debug)]
pub struct Info {
    service: String,
    version: String,
    limits: BTreeMap<&'static str, u64>,
    description: Description,
    stats: stats::Source,
}

/// A client introduces itself.
#[derive(Debug, Deserialize, Message)]
#[rtype(result = "Result<Welcome, Error>")]
pub struct Hello {
    /// The name of the client program.
    pub client: String,
    /// Its version.
    pub version: String,
    /// A deadline for calls of this connection that name none, in milliseconds.
    #[serde(default)]
    pub deadline_ms: Option<u32>,
}

/// What the service says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct Welcome {
    service: String,
    version: String,
    client_id: u64,
    /// Every limit by its key: a number, bytes, or milliseconds.
    limits: BTreeMap<&'static str, u64>,
    /// What this service can do beyond plain calls.
    features: &'static [&'static str],
}

/// A client asks for the list of programs.
#[derive(Debug, Deserialize, Message)]
#[rtype(result = "Result<Description, Error>")]
pub struct Describe {}

/// A client asks for the numbers of the service.
#[derive(Debug, Deserialize, Message)]
#[rtype(result = "Result<Stats, Error>")]
pub struct Count {}

/// A client subscribes to an event.
#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Subscribed, Error>")]
pub struct Subscribe {
    /// The name of the program, in its highest version, or as `name/version`.
    pub program: String,
    /// The name of the event.
    pub event: String,
    /// What is dropped when the queue is full.
    #[serde(default)]
    #[schemars(schema_with = "overflow")]
    pub overflow: Overflow,
    /// How many events may wait for this client to read; 256, or `max_event_queue` if that is less.
    #[serde(default)]
    pub queue: Option<u32>,
}

fn overflow(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["drop_oldest", "drop_newest", "disconnect"] })
}

/// A subscription that is open.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Subscribed {
    /// Its number, which is the serial of its events.
    subscription: u32,
}

/// A client ends a subscription.
#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Unsubscribed, Error>")]
pub struct Unsubscribe {
    /// Its number.
    pub subscription: u32,
}

/// A subscription has ended: nothing of it comes after this.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Unsubscribed {}

/// A client has come or gone.
pub const CLIENTS: Event<ClientChange> = Event::new(1, "clients").schema();

/// Every program that the service serves.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    programs: Vec<ProgramDescription>,
}

#[derive(Clone, Debug, Serialize)]
struct ProgramDescription {
    name: String,
    number: u32,
    version: u32,
    /// How its payloads are encoded: `messagepack` or `xdr`.
    codec: &'static str,
    procedures: Vec<ProcedureDescription>,
    events: Vec<EventDescription>,
}

#[derive(Clone, Debug, Serialize)]
struct ProcedureDescription {
    number: i32,
    name: String,
    class: &'static str,
    priority: bool,
    /// Whether its calls run to their end when their client leaves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    runs_to_end: bool,
    /// The JSON schemas of the arguments and the result, where the program gives them.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Schema>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Schema>,
}

#[derive(Clone, Debug, Serialize)]
struct EventDescription {
    number: i32,
    name: &'static str,
    /// The JSON schema of the value, where the program gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Schema>,
}

const FEATURES: &[&str] =
    &["cancel", "deadline", "events", "keepalive", "key", "messagepack-rpc", "metadata", "stats", "trace"];

impl Info {
    /// What there is to tell about a service with these programs, and with the directory and keepalive.
    pub(crate) fn new(
        service: String,
        version: String,
        limits: &Limits,
        programs: &[Program],
        stats: stats::Source,
    ) -> Self {
        let limits = TABLE.iter().map(|row| (row.key, row.get(limits))).collect();
        let mut described: Vec<ProgramDescription> = programs.iter().map(describe).collect();
        // The directory describes itself too: its procedures, for which it does not matter what they tell.
        let nothing = Description { programs: Vec::new() };
        let itself = Self {
            service: String::new(),
            version: String::new(),
            limits: BTreeMap::new(),
            description: nothing,
            stats: stats::Source::default(),
        };
        described.push(describe(&program(Arc::new(itself))));
        described.push(ProgramDescription {
            name: "keepalive".to_owned(),
            number: keepalive::PROGRAM,
            version: keepalive::VERSION,
            codec: Codec::MessagePack.as_str(),
            procedures: Vec::new(),
            events: vec![
                EventDescription { number: keepalive::PING, name: "ping", value: None },
                EventDescription { number: keepalive::PONG, name: "pong", value: None },
            ],
        });
        described.sort_by(|one, other| (&one.name, one.version).cmp(&(&other.name, other.version)));
        Self { service, version, limits, description: Description { programs: described }, stats }
    }
}

fn describe(program: &Program) -> ProgramDescription {
    let codec = program.payload_codec();
    // A JSON schema says nothing of XDR, which has no names and no types on the wire.
    let schemas = |procedure: &Procedure| procedure.schemas.clone().filter(|_| codec == Codec::MessagePack);
    let procedures = program.procedures().iter().map(|procedure| ProcedureDescription {
        number: procedure.number,
        name: procedure.name.clone(),
        class: procedure.class.as_str(),
        priority: procedure.priority,
        runs_to_end: procedure.runs_to_end,
        arguments: schemas(procedure).map(|schemas| schemas.arguments.clone()),
        result: schemas(procedure).map(|schemas| schemas.result.clone()),
    });
    let events = program.events().iter().map(|event| EventDescription {
        number: event.number,
        name: event.name,
        value: event.schema.as_deref().cloned(),
    });
    ProgramDescription {
        name: program.name().to_owned(),
        number: program.number(),
        version: program.version(),
        codec: codec.as_str(),
        procedures: procedures.collect(),
        events: events.collect(),
    }
}

/// The program, telling this.
pub(crate) fn program(info: Arc<Info>) -> Program {
    Program::new("directory", NUMBER, VERSION)
        .handler(move || Directory { info: info.clone() })
        .inline::<Hello>(1, "hello")
        .inline::<Describe>(2, "describe")
        .inline::<Count>(3, "stats")
        .inline::<Subscribe>(4, "subscribe")
        .schema()
        .inline::<Unsubscribe>(5, "unsubscribe")
        .schema()
        .event(CLIENTS)
        .into()
}

struct Directory {
    info: Arc<Info>,
}

impl Actor for Directory {
    type Context = Context<Self>;
}

impl Handler<Call<Hello>> for Directory {
    type Result = Result<Welcome, Error>;

    fn handle(&mut self, call: Call<Hello>, _: &mut Self::Context) -> Self::Result {
        let Hello { client, version, deadline_ms } = &call.args;
        log::debug!("hello from {client:?}, version {version:?}");
        if let Some(ms) = *deadline_ms {
            call.set_default_deadline(Duration::from_millis(ms.into()));
        }
        Ok(Welcome {
            service: self.info.service.clone(),
            version: self.info.version.clone(),
            client_id: call.client_id(),
            limits: self.info.limits.clone(),
            features: FEATURES,
        })
    }
}

impl Handler<Call<Describe>> for Directory {
    type Result = Result<Description, Error>;

    fn handle(&mut self, _: Call<Describe>, _: &mut Self::Context) -> Self::Result {
        Ok(self.info.description.clone())
    }
}

impl Handler<Call<Count>> for Directory {
    type Result = Result<Stats, Error>;

    fn handle(&mut self, _: Call<Count>, _: &mut Self::Context) -> Self::Result {
        // It is there before the first client is.
        self.info.stats.read().ok_or_else(|| Error::failed("the service is starting").with_retryable())
    }
}

impl Handler<Call<Subscribe>> for Directory {
    type Result = Result<Subscribed, Error>;

    fn handle(&mut self, call: Call<Subscribe>, _: &mut Self::Context) -> Self::Result {
        let Subscribe { program, event, overflow, queue } = &call.args;
        let options = SubscribeOptions { overflow: *overflow, queue: *queue, ..SubscribeOptions::DEFAULT };
        let subscription = call.subscribe_by_name(program, event, options)?.number();
        Ok(Subscribed { subscription })
    }
}

impl Handler<Call<Unsubscribe>> for Directory {
    type Result = Result<Unsubscribed, Error>;

    fn handle(&mut self, call: Call<Unsubscribe>, _: &mut Self::Context) -> Self::Result {
        call.unsubscribe(Subscription::from_number(call.args.subscription))?;
        Ok(Unsubscribed {})
    }
}
