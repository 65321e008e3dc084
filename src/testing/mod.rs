//! What tests of programs and handlers need: a service and its client in memory, handlers without a service and what
//! they publish, gates in place of sleeps, and faults on the line.
//!
//! ```
//! # use actix::prelude::*;
//! # use postroom::{Call, Config, Error, Program, Service};
//! # #[derive(serde::Deserialize, serde::Serialize, Message)]
//! # #[rtype(result = "Result<u32, Error>")]
//! # struct Double { n: u32 }
//! # struct Doubler;
//! # impl Actor for Doubler { type Context = Context<Self>; }
//! # impl Handler<Call<Double>> for Doubler {
//! #     type Result = Result<u32, Error>;
//! #     fn handle(&mut self, call: Call<Double>, _: &mut Self::Context) -> Self::Result { Ok(2 * call.args.n) }
//! # }
//! use postroom::testing;
//!
//! // A handler, without a service.
//! assert_eq!(testing::handle(|| Doubler, Double { n: 21 }).unwrap(), 42);
//!
//! // The whole way, through a reader, the pool and a worker, in memory.
//! let program = Program::new("doubler", 7, 1).handler(|| Doubler).procedure::<Double>(1, "double");
//! let pair = testing::pair(Service::new(Config::default()).program(program));
//! let doubled: u32 = pair.client.call("doubler.double", &Double { n: 21 }).unwrap();
//! assert_eq!(doubled, 42);
//! ```

mod faults;
mod gate;

use actix::{Actor, Context, Handler, Message};
use postroom_actors::events::{Captured, Publisher};
use postroom_actors::{Call, Peer, Transport};
use postroom_client::blocking;

use crate::running::Running;
use crate::service::Service;
pub use faults::{Faults, faulty};
pub use gate::Gate;

/// A service and a client of it, connected in memory.
///
/// Dropping it stops the service.
#[derive(Debug)]
pub struct Pair {
    /// The client. It is dropped before the service.
    pub client: blocking::Client,
    /// The service.
    pub service: Running,
}

/// Starts a service and connects a client to it in memory. The configuration may listen elsewhere too.
///
/// # Panics
///
/// When the service does not start, or refuses the client: a test has nothing else to do then.
#[track_caller]
pub fn pair(service: Service) -> Pair {
    let service = service.start().unwrap_or_else(|error| panic!("the service does not start: {error}"));
    let client = service.connector("service").builder().connect_blocking("local:service");
    let client = client.unwrap_or_else(|error| panic!("the client does not connect: {error}"));
    Pair { client, service }
}

/// Calls a handler without a service: an actor that `factory` makes gets one call with these arguments.
///
/// Nothing is encoded or decoded. Works for handlers that return a result and for those that return a future of one.
///
/// # Panics
///
/// When the handler panics, or stops its context before it has answered.
#[track_caller]
pub fn handle<A, M>(factory: impl FnOnce() -> A, args: M) -> M::Result
where
    A: Actor<Context = Context<A>> + Handler<Call<M>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    handle_all(factory, [args]).remove(0)
}

/// As [`handle`], with what the handler has published by [`Call::publisher`] until it answered, in order.
///
/// What it subscribed its caller to by [`Call::subscribe`] gets what it publishes to each subscription.
///
/// ```
/// # use actix::prelude::*;
/// # use postroom::{Call, Error, Event};
/// # #[derive(Message)]
/// # #[rtype(result = "Result<(), Error>")]
/// # struct Heat { celsius: u32 }
/// # struct Oven;
/// # impl Actor for Oven { type Context = Context<Self>; }
/// # impl Handler<Call<Heat>> for Oven {
/// #     type Result = Result<(), Error>;
/// #     fn handle(&mut self, call: Call<Heat>, _: &mut Self::Context) -> Self::Result {
/// #         call.publisher().publish(HOT, &call.args.celsius);
/// #         Ok(())
/// #     }
/// # }
/// use postroom::testing;
///
/// const HOT: Event<u32> = Event::new(1, "hot");
///
/// let (result, events) = testing::handle_with_events(|| Oven, Heat { celsius: 250 });
/// assert!(result.is_ok());
/// assert_eq!((events.len(), events[0].event), (1, "hot"));
/// assert_eq!(events[0].value::<u32>().unwrap(), 250);
/// ```
///
/// # Panics
///
/// As [`handle`].
#[track_caller]
pub fn handle_with_events<A, M>(factory: impl FnOnce() -> A, args: M) -> (M::Result, Vec<Captured>)
where
    A: Actor<Context = Context<A>> + Handler<Call<M>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let publisher = Publisher::for_test();
    let result = handle_all_with(factory, [args], &publisher).remove(0);
    (result, publisher.captured())
}

/// Calls one instance of a handler several times, one call after the other, so that its state can be seen to change.
///
/// # Panics
///
/// As [`handle`].
#[track_caller]
pub fn handle_all<A, M>(factory: impl FnOnce() -> A, calls: impl IntoIterator<Item = M>) -> Vec<M::Result>
where
    A: Actor<Context = Context<A>> + Handler<Call<M>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    handle_all_with(factory, calls, &Publisher::for_test())
}

#[track_caller]
fn handle_all_with<A, M>(
    factory: impl FnOnce() -> A,
    calls: impl IntoIterator<Item = M>,
    publisher: &Publisher,
) -> Vec<M::Result>
where
    A: Actor<Context = Context<A>> + Handler<Call<M>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let peer = Peer::new(1, Transport::Local, None);
    actix::System::new().block_on(async move {
        let handler = factory().start();
        let mut results = Vec::new();
        for (serial, args) in (0..).zip(calls) {
            match handler.send(Call::for_test_with(args, peer, serial, publisher.clone())).await {
                Ok(result) => results.push(result),
                Err(error) => panic!("the handler did not answer call {serial}: {error}"),
            }
        }
        results
    })
}
