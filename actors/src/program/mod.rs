//! Programs, as a user declares them: a number, a name, a version, and handler actors with their procedures.
//!
//! [`Program::new`] starts one, [`Program::handler`] adds a handler actor, and the methods of [`Handlers`] register
//! its procedures, each in one class. What is wrong with a declaration is collected and told when the service starts
//! ([`ProgramErrors`](crate::ProgramErrors)), all at once.

mod codec;
pub(crate) mod handler;
pub(crate) mod registry;

use std::marker::PhantomData;
use std::sync::Arc;

use actix::dev::MessageResponse;
use actix::{Actor, Context, Handler, Message, ResponseFuture};
use postroom_protocol::Error;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::events::{Declaration, Event, Place, Publisher};
pub use codec::Codec;
use handler::{Group, Run, TypedGroup};

/// How the calls of a procedure run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// On a worker's thread, one such call at a time there: for handlers that compute or block.
    Blocking,
    /// As a future on a thread for async procedures, many at once: for handlers that wait but do not block.
    Asynchronous,
    /// At once on the thread that reads the client: for handlers that only touch memory, in microseconds.
    Inline,
}

impl Class {
    /// `blocking`, `async` or `inline`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Asynchronous => "async",
            Self::Inline => "inline",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a procedure is called and how it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Procedure {
    /// Its number on the wire, from 1.
    pub number: i32,
    /// Its name, unique within the program.
    pub name: String,
    /// How its calls run.
    pub class: Class,
    /// Whether its calls are taken before waiting ordinary ones.
    pub priority: bool,
    /// Whether its calls run to their end when their client leaves.
    pub runs_to_end: bool,
    /// The JSON schemas of its arguments and its result, where the program gives them.
    pub schemas: Option<Arc<Schemas>>,
    /// The handler actor that serves it: an index into the program's handlers.
    pub(crate) group: usize,
    /// The function of that handler actor that runs it.
    pub(crate) run: usize,
}

/// What the arguments and the result of a procedure look like, as JSON schema (draft 2020-12).
#[derive(Clone, Debug, PartialEq)]
pub struct Schemas {
    /// The schema of the arguments.
    pub arguments: Schema,
    /// The schema of the result.
    pub result: Schema,
}

/// A numbered, versioned set of procedures with a name.
///
/// Several versions of a program can be served side by side: each is a `Program` of its own with the same number.
#[derive(Debug)]
pub struct Program {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) version: u32,
    pub(crate) codec: Codec,
    pub(crate) procedures: Vec<Procedure>,
    pub(crate) events: Vec<Declaration>,
    pub(crate) groups: Vec<Arc<dyn Group>>,
    pub(crate) place: Arc<Place>,
}

impl Program {
    /// A program without procedures.
    ///
    /// `number` tells programs apart on the wire; four letters of the name make a good one (`0x7468_6d62` is `thmb`).
    /// `version` counts from 1.
    pub fn new(name: impl Into<String>, number: u32, version: u32) -> Self {
        let name = name.into();
        let place = Place::new(name.clone(), number, version);
        let (codec, procedures, events, groups) = (Codec::default(), Vec::new(), Vec::new(), Vec::new());
        Self { name, number, version, codec, procedures, events, groups, place }
    }

    /// Has arguments, results and errors of this program travel by this codec; without it, by [`Codec::MessagePack`].
    ///
    /// Handlers do not notice: their types are read and written by it. A program that libvirt's clients call takes
    /// [`Codec::Xdr`]:
    ///
    /// ```
    /// use actix::prelude::*;
    /// use postroom_actors::{Call, Codec, Error, Program};
    ///
    /// #[derive(serde::Deserialize, Message)]
    /// #[rtype(result = "Result<String, Error>")]
    /// struct GetHostname;
    ///
    /// struct Remote;
    /// impl Actor for Remote { type Context = Context<Self>; }
    /// impl Handler<Call<GetHostname>> for Remote {
    ///     type Result = Result<String, Error>;
    ///     fn handle(&mut self, _: Call<GetHostname>, _: &mut Self::Context) -> Self::Result { Ok("vm".to_owned()) }
    /// }
    ///
    /// let remote: Program = Program::new("remote", 0x2000_8086, 1)
    ///     .codec(Codec::Xdr)
    ///     .handler(|| Remote)
    ///     .procedure::<GetHostname>(59, "connect_get_hostname")
    ///     .into();
    /// assert_eq!(remote.payload_codec(), Codec::Xdr);
    /// ```
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Declares an event: clients may subscribe to it, and [`Publisher`]s of this program publish it.
    pub fn event<T: ?Sized + 'static>(mut self, event: Event<T>) -> Self {
        self.events.push(Declaration::new(event));
        self
    }

    /// Publishes the events of this program, once a service has started with it: for what is made before that, such as
    /// handlers and the threads of an embedding program.
    pub fn publisher(&self) -> Publisher {
        Publisher::of(self.place.clone())
    }

    /// Adds a handler actor to this program.
    ///
    /// `factory` makes one instance for each thread that runs its procedures: one per worker for blocking ones, one
    /// per async thread, one per I/O thread for inline ones. After a panic the instance is thrown away and the
    /// factory makes a fresh one. What instances share comes through the closure, for example an `Arc`.
    pub fn handler<A, F>(self, factory: F) -> Handlers<A>
    where
        A: Actor<Context = Context<A>>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        Handlers { program: self, factory: Box::new(factory), runs: Vec::new(), last: PhantomData }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number on the wire.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// How its payloads are encoded.
    pub fn payload_codec(&self) -> Codec {
        self.codec
    }

    /// The procedures, in the order in which they were registered.
    pub fn procedures(&self) -> &[Procedure] {
        &self.procedures
    }

    /// The events, in the order in which they were declared.
    pub fn events(&self) -> &[Declaration] {
        &self.events
    }
}

/// What a handler returns: a result that can be encoded, or an error.
///
/// Implemented for every `Result` whose value serialises and whose error converts to [`Error`]; a handler's own error
/// type joins in by `impl From<MyError> for Error`.
pub trait Outcome: 'static {
    /// The value of a successful call.
    type Value: Serialize;
    /// The value, or what the client is told.
    ///
    /// # Errors
    ///
    /// The handler's own error, with its code.
    fn into_result(self) -> Result<Self::Value, Error>;
}

impl<T: Serialize + 'static, E: Into<Error> + 'static> Outcome for Result<T, E> {
    type Value = T;
    fn into_result(self) -> Result<T, Error> {
        self.map_err(Into::into)
    }
}

/// A handler actor of a program and its procedures so far.
///
/// The class of a procedure is part of how it is registered, so that a handler of the wrong kind does not compile:
/// `procedure` and `inline` take handlers that return the result, `asynchronous` those that return a future of it.
///
/// ```compile_fail
/// use actix::prelude::*;
/// use postroom_actors::{Call, Error, Program};
///
/// #[derive(serde::Deserialize, Message)]
/// #[rtype(result = "Result<u32, Error>")]
/// struct Count {}
///
/// struct Counter;
/// impl Actor for Counter { type Context = Context<Self>; }
/// impl Handler<Call<Count>> for Counter {
///     type Result = Result<u32, Error>;
///     fn handle(&mut self, _: Call<Count>, _: &mut Self::Context) -> Self::Result { Ok(1) }
/// }
///
/// // The handler returns its result, not a future: it cannot be registered as async.
/// Program::new("counter", 1, 1).handler(|| Counter).asynchronous::<Count>(1, "count");
/// ```
///
/// `Last` is the message of the procedure registered last, which [`Self::schema`] describes.
pub struct Handlers<A: Actor<Context = Context<A>>, Last = ()> {
    program: Program,
    factory: Box<dyn Fn() -> A + Send + Sync>,
    runs: Vec<Run<A>>,
    last: PhantomData<fn(Last)>,
}

impl<A: Actor<Context = Context<A>>, Last> std::fmt::Debug for Handlers<A, Last> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").field("program", &self.program).finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Context<A>>, Last> Handlers<A, Last> {
    /// Registers a blocking procedure, the safe default: it runs on a worker's thread and may compute or block there.
    pub fn procedure<M>(self, number: i32, name: impl Into<String>) -> Handlers<A, M>
    where
        M: Message + DeserializeOwned + 'static,
        M::Result: Outcome + MessageResponse<A, Call<M>>,
        A: Handler<Call<M>, Result = <M as Message>::Result>,
    {
        self.add(number, name.into(), Class::Blocking, handler::run::<A, M>())
    }

    /// Registers an inline procedure: it runs at once on the thread that reads the client, without a thread hop.
    ///
    /// Only for handlers that touch memory and take microseconds: while one runs, no other client of that thread is
    /// served. Its author vouches for it.
    pub fn inline<M>(self, number: i32, name: impl Into<String>) -> Handlers<A, M>
    where
        M: Message + DeserializeOwned + 'static,
        M::Result: Outcome + MessageResponse<A, Call<M>>,
        A: Handler<Call<M>, Result = <M as Message>::Result>,
    {
        self.add(number, name.into(), Class::Inline, handler::run::<A, M>())
    }

    /// Registers an async procedure: its handler returns a future that waits without blocking.
    pub fn asynchronous<M>(self, number: i32, name: impl Into<String>) -> Handlers<A, M>
    where
        M: Message + DeserializeOwned + 'static,
        M::Result: Outcome,
        A: Handler<Call<M>, Result = ResponseFuture<<M as Message>::Result>>,
    {
        self.add(number, name.into(), Class::Asynchronous, handler::run_async::<A, M>())
    }

    /// Marks the procedure registered last as guaranteed to finish soon: when calls wait for a worker, those of
    /// priority procedures are taken first. It has no effect on inline procedures, which never wait.
    pub fn priority(mut self) -> Self {
        if let Some(last) = self.program.procedures.last_mut() {
            last.priority = true;
        }
        self
    }

    /// Has calls of the procedure registered last run to their end when their client leaves, also those that wait.
    ///
    /// Without this they are cancelled: those that wait never run, the future of an async one is dropped, and a
    /// blocking one is told by [`Call::is_cancelled`].
    pub fn run_to_end(mut self) -> Self {
        if let Some(last) = self.program.procedures.last_mut() {
            last.runs_to_end = true;
        }
        self
    }

    /// Declares an event of the program, see [`Program::event`].
    pub fn event<T: ?Sized + 'static>(mut self, event: Event<T>) -> Self {
        self.program = self.program.event(event);
        self
    }

    /// Adds another handler actor to the same program.
    pub fn handler<B, F>(self, factory: F) -> Handlers<B>
    where
        B: Actor<Context = Context<B>>,
        F: Fn() -> B + Send + Sync + 'static,
    {
        Program::from(self).handler(factory)
    }

    /// Gives the JSON schemas of the arguments and the result of the procedure registered last, as their types derive
    /// them: `directory.describe` then tells them to clients.
    pub fn schema(mut self) -> Self
    where
        Last: Message + JsonSchema,
        Last::Result: Outcome,
        <Last::Result as Outcome>::Value: JsonSchema,
    {
        if let Some(last) = self.program.procedures.last_mut() {
            last.schemas = Some(Arc::new(Schemas {
                arguments: schema_for!(Last),
                result: schema_for!(<Last::Result as Outcome>::Value),
            }));
        }
        self
    }

    fn add<M>(mut self, number: i32, name: String, class: Class, run: Run<A>) -> Handlers<A, M> {
        let group = self.program.groups.len();
        self.program.procedures.push(Procedure {
            number,
            name,
            class,
            priority: false,
            runs_to_end: false,
            schemas: None,
            group,
            run: self.runs.len(),
        });
        self.runs.push(run);
        Handlers { program: self.program, factory: self.factory, runs: self.runs, last: PhantomData }
    }
}

impl<A: Actor<Context = Context<A>>, Last> From<Handlers<A, Last>> for Program {
    fn from(handlers: Handlers<A, Last>) -> Self {
        let Handlers { mut program, factory, runs, last: _ } = handlers;
        program.groups.push(Arc::new(TypedGroup { factory, runs: runs.into() }));
        program
    }
}
