//! The program under fire: handlers of each class that answer, panic, hang, stop, end their thread and so on, as each
//! call tells them, and that see whether calls with a key come one by one and in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use postroom::{Call, Error, Program};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::subscriber::SPARK;
use crate::support::PATIENCE;

/// The number of the program: `fire`.
pub const FIRE: u32 = 0x6669_7265;

/// Its procedures: the same orders, each in another class or with another handler actor.
pub mod proc {
    pub const BLOCKING: i32 = 1;
    pub const PRIORITY: i32 = 2;
    pub const TO_END: i32 = 3;
    pub const INLINE: i32 = 4;
    pub const ASYNC: i32 = 5;
    pub const ASYNC_TO_END: i32 = 6;
    pub const BAD_FACTORY: i32 = 7;
    pub const BAD_START: i32 = 8;
    pub const BAD_DROP: i32 = 9;
    pub const BAD_FACTORY_ASYNC: i32 = 10;
    pub const BAD_START_INLINE: i32 = 11;
}

/// What a handler is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// Takes its time and answers.
    Answer,
    /// Takes its time and panics.
    Panic,
    /// Waits for the turn of the tide, or until nobody waits for it.
    Hang,
    /// Stops its context, and answers.
    Stop,
    /// Answers, and panics later, in a future of its own.
    PanicLater,
    /// Ends its thread, and answers if it can.
    EndThread,
    /// Answers with an error of its own.
    OwnError,
    /// Answers with what cannot be encoded.
    Unencodable,
    /// Its future panics when it is dropped.
    PanicInDrop,
    /// Panics before there is a future.
    PanicEarly,
}

pub const ALL: [What; 10] = [
    What::Answer,
    What::Panic,
    What::Hang,
    What::Stop,
    What::PanicLater,
    What::EndThread,
    What::OwnError,
    What::Unencodable,
    What::PanicInDrop,
    What::PanicEarly,
];

/// What the handlers share with the test.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    pub tide: Arc<Tide>,
    pub keys: Arc<Keys>,
    /// How many more factories, and `started`s, panic.
    pub bad_factories: Arc<AtomicU64>,
    pub bad_starts: Arc<AtomicU64>,
}

/// What hanging handlers wait for.
#[derive(Debug, Default)]
pub struct Tide {
    turns: AtomicU64,
    is_out: AtomicBool,
}

impl Tide {
    /// Lets go whoever hangs now.
    pub fn turn(&self) {
        self.turns.fetch_add(1, SeqCst);
    }

    /// Whether nobody hangs at all any more.
    pub fn set_out(&self, is_out: bool) {
        self.is_out.store(is_out, SeqCst);
    }

    /// Whether one that began to hang at this turn may go on.
    fn lets_go(&self, turn: u64) -> bool {
        self.is_out.load(SeqCst) || self.turns.load(SeqCst) > turn
    }
}

/// How often a hanging handler looks.
const LOOK: Duration = Duration::from_micros(500);

/// Calls with keys, as the handlers see them.
#[derive(Debug, Default)]
pub struct Keys {
    /// By client and key: whether one runs, and the place of the last that began.
    seen: Mutex<HashMap<(u64, u64), (bool, u64)>>,
    violations: Mutex<Vec<String>>,
}

/// A call with a key that runs, until it is dropped.
struct Turn(Arc<Keys>, (u64, u64));

impl Keys {
    fn begin(self: &Arc<Self>, client: u64, order: Option<(u64, u64)>) -> Option<Turn> {
        let (key, place) = order?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.entry((client, key)).or_default();
        if entry.0 || entry.1 >= place {
            let violation = format!("client {client}, key {key}: call {place} begins, seen was {entry:?}");
            self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
        }
        *entry = (true, place);
        drop(seen);
        Some(Turn(self.clone(), (client, key)))
    }

    /// Fails if calls with a key ran at once or out of order. Forgets what it knows.
    #[track_caller]
    pub fn were_in_order(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = HashMap::new();
        let violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = seen.get_mut(&self.1) {
            entry.0 = false;
        }
    }
}

/// What a call asks for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Args {
    pub id: u64,
    pub what: u8,
    /// How long it takes.
    pub us: u64,
    /// The length of the data in the reply.
    pub bytes: usize,
    /// The key of the call, and its place among those with that key.
    pub order: Option<(u64, u64)>,
}

#[derive(Deserialize, Message)]
#[serde(transparent)]
#[rtype(result = "Result<Done, Error>")]
struct Order(Args);

#[derive(Deserialize, Message)]
#[serde(transparent)]
#[rtype(result = "Result<Done, Error>")]
struct AsyncOrder(Args);

#[derive(Serialize)]
#[serde(untagged)]
enum Done {
    Good { id: u64, data: ByteBuf },
    Odd(Odd),
}

/// A value that does not encode, after it has begun to.
struct Odd;

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeSeq};
        let mut sequence = serializer.serialize_seq(Some(2))?;
        sequence.serialize_element(&[7; 100][..])?;
        Err(S::Error::custom("it is odd"))
    }
}

fn what(args: &Args) -> What {
    ALL[usize::from(args.what) % ALL.len()]
}

fn done(args: &Args) -> Result<Done, Error> {
    match what(args) {
        What::OwnError => Err(Error::new("out_of_water", format!("the hose is empty for call {}", args.id))),
        What::Unencodable => Ok(Done::Odd(Odd)),
        _ => Ok(Done::Good { id: args.id, data: ByteBuf::from(vec![args.id as u8; args.bytes]) }),
    }
}

struct Fighter {
    shared: Shared,
    /// Whether it panics when it is dropped.
    is_bad: bool,
}

impl Actor for Fighter {
    type Context = Context<Self>;
}

impl Drop for Fighter {
    fn drop(&mut self) {
        // A second panic at once would end the process, as it does everywhere in Rust.
        if self.is_bad && !std::thread::panicking() {
            panic!("as asked, in the drop of a handler");
        }
    }
}

impl Handler<Call<Order>> for Fighter {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Order>, ctx: &mut Self::Context) -> Self::Result {
        let args = &call.args.0;
        let _turn = self.shared.keys.begin(call.client_id(), args.order);
        if args.us > 0 {
            std::thread::sleep(Duration::from_micros(args.us));
        }
        match what(args) {
            What::Panic | What::PanicEarly | What::PanicInDrop => panic!("as asked, by call {}", args.id),
            What::Hang => {
                let (turn, since) = (self.shared.tide.turns.load(SeqCst), Instant::now());
                while !self.shared.tide.lets_go(turn) && !call.is_cancelled() {
                    assert!(since.elapsed() < PATIENCE, "the tide does not turn");
                    std::thread::sleep(LOOK);
                }
            }
            What::Stop => ctx.stop(),
            What::PanicLater => drop(ctx.spawn(panics_later().into_actor(self))),
            What::EndThread => drop(Arbiter::current().stop()),
            What::Answer | What::OwnError | What::Unencodable => {}
        }
        done(args)
    }
}

/// A future of a handler's own, outside of any call.
async fn panics_later() {
    panic!("as asked, in a future of the handler's own")
}

/// Panics when it is dropped.
struct BadEnd(u64);

impl Drop for BadEnd {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("as asked, in the drop of the future of call {}", self.0);
        }
    }
}

impl Handler<Call<AsyncOrder>> for Fighter {
    type Result = ResponseFuture<Result<Done, Error>>;

    fn handle(&mut self, call: Call<AsyncOrder>, ctx: &mut Self::Context) -> Self::Result {
        let turn = self.shared.keys.begin(call.client_id(), call.args.0.order);
        let what = what(&call.args.0);
        match what {
            What::PanicEarly => panic!("as asked, before the future of call {}", call.args.0.id),
            What::Stop => ctx.stop(),
            What::PanicLater => drop(ctx.spawn(panics_later().into_actor(self))),
            _ => {}
        }
        // Not `then_some`, which makes one in any case, and drops it.
        let bad_end = (what == What::PanicInDrop).then(|| BadEnd(call.args.0.id));
        let tide = self.shared.tide.clone();
        Box::pin(async move {
            let held = (turn, bad_end);
            let args = &call.args.0;
            if args.us > 0 {
                tokio::time::sleep(Duration::from_micros(args.us)).await;
            }
            match what {
                What::Panic => panic!("as asked, in the future of call {}", args.id),
                What::Hang => {
                    let (turn, since) = (tide.turns.load(SeqCst), Instant::now());
                    while !tide.lets_go(turn) {
                        assert!(since.elapsed() < PATIENCE, "the tide does not turn");
                        tokio::time::sleep(LOOK).await;
                    }
                }
                What::EndThread => {
                    Arbiter::current().stop();
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
            // Before there is an answer: Rust leaks a value that is on its way out of a block when the drop of one of the
            // block's variables panics (rust-lang/rust#47949), and the memory of this process is watched.
            drop(held);
            done(args)
        })
    }
}

/// A handler that panics while it starts, as often as it is told.
struct BadStart(Fighter);

impl Actor for BadStart {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        take_one(&self.0.shared.bad_starts, "in started");
    }
}

impl Handler<Call<Order>> for BadStart {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Order>, _: &mut Self::Context) -> Self::Result {
        if what(&call.args.0) == What::Panic {
            panic!("as asked, so that it has to start again, by call {}", call.args.0.id);
        }
        done(&call.args.0)
    }
}

/// A handler whose factory panics as often as it is told; any panic makes it run again.
struct BadFactory;

impl Actor for BadFactory {
    type Context = Context<Self>;
}

impl Handler<Call<Order>> for BadFactory {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Order>, _: &mut Self::Context) -> Self::Result {
        if what(&call.args.0) == What::Panic {
            panic!("as asked, so that it has to be made again, by call {}", call.args.0.id);
        }
        done(&call.args.0)
    }
}

impl Handler<Call<AsyncOrder>> for BadFactory {
    type Result = ResponseFuture<Result<Done, Error>>;

    fn handle(&mut self, call: Call<AsyncOrder>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            if what(&call.args.0) == What::Panic {
                panic!("as asked, so that it has to be made again, by call {}", call.args.0.id);
            }
            done(&call.args.0)
        })
    }
}

fn take_one(left: &AtomicU64, what: &str) {
    if left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        panic!("as asked, {what}");
    }
}

/// The program.
pub fn program(shared: &Shared) -> Program {
    let fighter = |is_bad| {
        let shared = shared.clone();
        move || Fighter { shared: shared.clone(), is_bad }
    };
    let (start, bad_factories) = (fighter(false), shared.bad_factories.clone());
    Program::new("fire", FIRE, 1)
        .event(SPARK)
        .handler(fighter(false))
        .procedure::<Order>(proc::BLOCKING, "blocking")
        .procedure::<Order>(proc::PRIORITY, "priority")
        .priority()
        .procedure::<Order>(proc::TO_END, "to_end")
        .run_to_end()
        .inline::<Order>(proc::INLINE, "inline")
        .asynchronous::<AsyncOrder>(proc::ASYNC, "async")
        .asynchronous::<AsyncOrder>(proc::ASYNC_TO_END, "async_to_end")
        .run_to_end()
        .handler(move || {
            take_one(&bad_factories, "in the factory");
            BadFactory
        })
        .procedure::<Order>(proc::BAD_FACTORY, "bad_factory")
        .asynchronous::<AsyncOrder>(proc::BAD_FACTORY_ASYNC, "bad_factory_async")
        .handler(move || BadStart(start()))
        .procedure::<Order>(proc::BAD_START, "bad_start")
        .inline::<Order>(proc::BAD_START_INLINE, "bad_start_inline")
        .handler(fighter(true))
        .procedure::<Order>(proc::BAD_DROP, "bad_drop")
        .into()
}
