//! The program under test: handlers that stop at gates, count, panic and fail as they are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use actix::prelude::*;
use postroom::{Call, Error, Event, Program, SubscribeOptions, Subscription};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::Gate;

/// The number of the program: `test`.
pub const TEST: u32 = 0x7465_7374;

/// The procedures of version 1. Version 2 has one, `count`, and handlers of its own.
#[allow(missing_docs)]
pub mod proc {
    pub const GATE: i32 = 1;
    pub const GATE_ASYNC: i32 = 2;
    pub const COUNT: i32 = 3;
    pub const COUNT_INLINE: i32 = 4;
    pub const COUNT_ASYNC: i32 = 5;
    pub const PANIC: i32 = 6;
    pub const PANIC_INLINE: i32 = 7;
    pub const PANIC_ASYNC: i32 = 8;
    pub const PANIC_FUTURE: i32 = 9;
    pub const STOP: i32 = 10;
    pub const STOP_INLINE: i32 = 11;
    pub const STOP_ASYNC: i32 = 12;
    pub const GROW: i32 = 13;
    pub const GROW_ERROR: i32 = 14;
    pub const OWN_ERROR: i32 = 15;
    pub const UNENCODABLE: i32 = 16;
    pub const GATE_PRIORITY: i32 = 17;
    pub const LATE_PANIC: i32 = 18;
    pub const ABSENT_MINDED: i32 = 19;
    pub const GROW_INLINE: i32 = 20;
    pub const END_THREAD: i32 = 21;
    pub const END_THREAD_ASYNC: i32 = 22;
    pub const BAD_FUTURE_DROP: i32 = 23;
    pub const KEEPALIVE: i32 = 24;
    pub const UNENCODABLE_INLINE: i32 = 25;
    pub const BAD_ENCODE: i32 = 26;
    pub const BAD_ENCODE_INLINE: i32 = 27;
    pub const HOLD_INLINE: i32 = 40;
    pub const HOLD_ASYNC: i32 = 41;
    pub const PUBLISH: i32 = 50;
    pub const PUBLISH_INLINE: i32 = 51;
    pub const PUBLISH_ASYNC: i32 = 52;
    pub const PUBLISH_EACH: i32 = 53;
    pub const SUBSCRIBE: i32 = 54;
    pub const UNSUBSCRIBE: i32 = 55;
    pub const BAD_FACTORY: i32 = 30;
    pub const BAD_START: i32 = 31;
    pub const BAD_DROP: i32 = 32;
    pub const BAD_DROP_PANIC: i32 = 33;
}

/// An event whose values are numbers.
pub const TICK: Event<u64> = Event::new(1, "tick").schema();

/// An event whose values are as long as the test wants them.
pub const BLOB: Event<Blob> = Event::new(2, "blob");

/// A number, and so many bytes.
#[derive(Serialize, Deserialize)]
pub struct Blob {
    pub number: u64,
    pub data: ByteBuf,
}

/// What the handlers share with the test.
#[derive(Clone, Default)]
pub struct Shared {
    pub gate: Gate,
    pub instances: Arc<AtomicU64>,
    /// How many more times the bad factory panics.
    pub bad_factory: Arc<AtomicU64>,
    /// How many more times the bad handler panics in `started`.
    pub bad_start: Arc<AtomicU64>,
}

struct Tested {
    shared: Shared,
    instance: u64,
    calls: u64,
}

impl Tested {
    fn new(shared: Shared) -> Self {
        let instance = shared.instances.fetch_add(1, SeqCst);
        Self { shared, instance, calls: 0 }
    }

    fn count(&mut self) -> Counted {
        self.calls += 1;
        Counted { instance: self.instance, calls: self.calls }
    }
}

impl Actor for Tested {
    type Context = Context<Self>;
}

#[derive(Serialize)]
struct Done {}

#[derive(Serialize)]
struct Counted {
    instance: u64,
    calls: u64,
}

macro_rules! message {
    ($name:ident { $($field:ident: $type:ty),* } -> $result:tt) => {
        #[derive(Deserialize, Message)]
        #[rtype(result = $result)]
        struct $name { $($field: $type),* }
    };
}

message!(Pass { door: u64 } -> "Result<Done, Error>");
message!(PassAsync { door: u64 } -> "Result<Done, Error>");
message!(Count {} -> "Result<Counted, Error>");
message!(CountAsync {} -> "Result<Counted, Error>");
message!(Panic {} -> "Result<Done, Error>");
message!(PanicAsync {} -> "Result<Done, Error>");
message!(PanicFuture { yields: u64 } -> "Result<Done, Error>");
message!(Stop {} -> "Result<Done, Error>");
message!(StopAsync {} -> "Result<Done, Error>");
message!(Grow { bytes: usize } -> "Result<Grown, Error>");
message!(GrowError { bytes: usize } -> "Result<Done, Error>");
message!(OwnError { number: u64 } -> "Result<Done, TestError>");
message!(Unencodable {} -> "Result<Odd, Error>");
message!(BadEncode {} -> "Result<BadValue, Error>");
message!(LatePanic {} -> "Result<Done, Error>");
message!(AbsentMinded { value: u64 } -> "Result<Done, Error>");
message!(Hold { ms: u64 } -> "Result<Done, Error>");
message!(HoldAsync { ms: u64 } -> "Result<Done, Error>");

message!(Publish { first: u64, count: u64, bytes: Option<usize> } -> "Result<Done, Error>");
message!(PublishAsync { first: u64, count: u64 } -> "Result<Done, Error>");
message!(PublishEach { to: u32, value: u64, others: Option<u64> } -> "Result<Done, Error>");
message!(Subscribe { serial: Option<u32>, queue: Option<u32> } -> "Result<Subscription, Error>");
message!(Unsubscribe { subscription: u32 } -> "Result<Done, Error>");
message!(EndThread {} -> "Result<Done, Error>");
message!(EndThreadAsync {} -> "Result<Done, Error>");
message!(BadFutureDrop {} -> "Result<Done, Error>");
message!(Keepalive {} -> "Result<Done, Error>");

#[derive(Serialize)]
struct Grown {
    data: ByteBuf,
}

/// An error with a code of its own.
struct TestError(u64);

impl From<TestError> for Error {
    fn from(error: TestError) -> Self {
        let details = BTreeMap::from([("number", error.0)]);
        Error::new("out_of_cheese", format!("{} is too much", error.0)).with_details(details)
    }
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

/// A value whose encoding panics, after it has begun.
struct BadValue;

impl Serialize for BadValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(Some(2))?;
        sequence.serialize_element(&[7; 100][..])?;
        panic!("as the test asked, in the middle of a reply")
    }
}

macro_rules! handlers {
    ($($message:ty => $result:ty: |$this:ident, $call:ident, $ctx:ident| $body:expr;)*) => {$(
        impl Handler<Call<$message>> for Tested {
            type Result = Result<$result, Error>;
            fn handle(&mut self, $call: Call<$message>, $ctx: &mut Self::Context) -> Self::Result {
                let $this = self;
                $body
            }
        }
    )*};
}

handlers! {
    Pass => Done: |this, call, _ctx| {
        this.shared.gate.pass(call.args.door);
        Ok(Done {})
    };
    Count => Counted: |this, _call, _ctx| Ok(this.count());
    Panic => Done: |this, _call, _ctx| panic!("as the test asked, in instance {}", this.instance);
    Stop => Done: |_this, _call, ctx| {
        ctx.stop();
        Ok(Done {})
    };
    EndThread => Done: |_this, _call, _ctx| {
        Arbiter::current().stop();
        Ok(Done {})
    };
    Grow => Grown: |_this, call, _ctx| Ok(Grown { data: ByteBuf::from(vec![b'x'; call.args.bytes]) });
    GrowError => Done: |_this, call, _ctx| Err(Error::failed("x".repeat(call.args.bytes)));
    Unencodable => Odd: |_this, _call, _ctx| Ok(Odd);
    BadEncode => BadValue: |_this, _call, _ctx| Ok(BadValue);
    LatePanic => Done: |_this, _call, ctx| {
        // Outside of any call: in a future of the handler's own.
        ctx.spawn(async { panic!("in a future of the handler's own") }.into_actor(_this));
        Ok(Done {})
    };
    Hold => Done: |_this, call, _ctx| {
        std::thread::sleep(std::time::Duration::from_millis(call.args.ms));
        Ok(Done {})
    };
    Publish => Done: |_this, call, _ctx| {
        let (publisher, Publish { first, count, bytes }) = (call.publisher(), &call.args);
        for number in *first..first + count {
            match *bytes {
                None => publisher.publish(TICK, &number),
                Some(bytes) => publisher.publish(BLOB, &Blob { number, data: ByteBuf::from(vec![7; bytes]) }),
            }
        }
        Ok(Done {})
    };
    PublishEach => Done: |_this, call, _ctx| {
        let PublishEach { to, value, others } = call.args;
        call.publisher().publish_each(TICK, |it| if it.number() == to { Some(value) } else { others });
        Ok(Done {})
    };
    Subscribe => Subscription: |_this, call, _ctx| {
        let Subscribe { serial, queue } = call.args;
        call.subscribe(TICK, SubscribeOptions { serial, queue, ..SubscribeOptions::DEFAULT })
    };
    Unsubscribe => Done: |_this, call, _ctx| {
        call.unsubscribe(Subscription::from_number(call.args.subscription))?;
        Ok(Done {})
    };
    Keepalive => Done: |_this, call, _ctx| {
        call.enable_keepalive();
        Ok(Done {})
    };
    AbsentMinded => Done: |_this, call, _ctx| {
        let hidden = format!("/secret/{}", call.args.value);
        std::panic::panic_any(hidden)
    };
}

impl Handler<Call<OwnError>> for Tested {
    type Result = Result<Done, TestError>;
    fn handle(&mut self, call: Call<OwnError>, _: &mut Self::Context) -> Self::Result {
        Err(TestError(call.args.number))
    }
}

impl Handler<Call<PassAsync>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, call: Call<PassAsync>, _: &mut Self::Context) -> Self::Result {
        let gate = self.shared.gate.clone();
        Box::pin(async move {
            gate.pass_async(call.args.door).await;
            Ok(Done {})
        })
    }
}

impl Handler<Call<HoldAsync>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, call: Call<HoldAsync>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            tokio::task::yield_now().await;
            std::thread::sleep(std::time::Duration::from_millis(call.args.ms));
            Ok(Done {})
        })
    }
}

impl Handler<Call<PublishAsync>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, call: Call<PublishAsync>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            let (publisher, PublishAsync { first, count }) = (call.publisher(), &call.args);
            for number in *first..first + count {
                publisher.publish(TICK, &number);
                tokio::task::yield_now().await;
            }
            Ok(Done {})
        })
    }
}

impl Handler<Call<CountAsync>> for Tested {
    type Result = ResponseFuture<Result<Counted, Error>>;
    fn handle(&mut self, _: Call<CountAsync>, _: &mut Self::Context) -> Self::Result {
        let counted = self.count();
        Box::pin(async move { Ok(counted) })
    }
}

impl Handler<Call<PanicAsync>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, _: Call<PanicAsync>, _: &mut Self::Context) -> Self::Result {
        panic!("as the test asked, before the future")
    }
}

impl Handler<Call<PanicFuture>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, call: Call<PanicFuture>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            for _ in 0..call.args.yields {
                tokio::task::yield_now().await;
            }
            panic!("as the test asked, in the future")
        })
    }
}

impl Handler<Call<StopAsync>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, _: Call<StopAsync>, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Box::pin(async { Ok(Done {}) })
    }
}

impl Handler<Call<EndThreadAsync>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, _: Call<EndThreadAsync>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async {
            Arbiter::current().stop();
            std::future::pending().await
        })
    }
}

/// A future that is done at once and panics when it is dropped.
struct BadFuture;

impl Future for BadFuture {
    type Output = Result<Done, Error>;
    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::task::Poll::Ready(Ok(Done {}))
    }
}

impl Drop for BadFuture {
    fn drop(&mut self) {
        panic!("as the test asked, in the drop of a future");
    }
}

impl Handler<Call<BadFutureDrop>> for Tested {
    type Result = ResponseFuture<Result<Done, Error>>;
    fn handle(&mut self, _: Call<BadFutureDrop>, _: &mut Self::Context) -> Self::Result {
        Box::pin(BadFuture)
    }
}

/// A handler that panics when it is dropped, which it is after it was stopped or has panicked.
struct BadDrop;

impl Actor for BadDrop {
    type Context = Context<Self>;
}

impl Drop for BadDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("as the test asked, in the drop of a handler");
        }
    }
}

impl Handler<Call<Stop>> for BadDrop {
    type Result = Result<Done, Error>;
    fn handle(&mut self, _: Call<Stop>, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(Done {})
    }
}

impl Handler<Call<Panic>> for BadDrop {
    type Result = Result<Done, Error>;
    fn handle(&mut self, _: Call<Panic>, _: &mut Self::Context) -> Self::Result {
        panic!("as the test asked, before its drop panics too")
    }
}

/// A handler that panics while it starts, as often as it is told.
struct BadStart(Shared);

impl Actor for BadStart {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Self::Context) {
        take_one(&self.0.bad_start, "in started");
    }
}

impl Handler<Call<Count>> for BadStart {
    type Result = Result<Counted, Error>;
    fn handle(&mut self, _: Call<Count>, _: &mut Self::Context) -> Self::Result {
        Ok(Counted { instance: 0, calls: 0 })
    }
}

/// A handler whose factory panics, as often as it is told.
struct BadFactory;

impl Actor for BadFactory {
    type Context = Context<Self>;
}

impl Handler<Call<Count>> for BadFactory {
    type Result = Result<Counted, Error>;
    fn handle(&mut self, _: Call<Count>, _: &mut Self::Context) -> Self::Result {
        Ok(Counted { instance: 0, calls: 0 })
    }
}

fn take_one(left: &AtomicU64, what: &str) {
    if left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        panic!("as the test asked, {what}");
    }
}

/// Both versions of the program.
pub fn programs(shared: &Shared) -> [Program; 2] {
    let make = {
        let shared = shared.clone();
        move || Tested::new(shared.clone())
    };
    let bad_factory = {
        let left = shared.bad_factory.clone();
        move || {
            take_one(&left, "in the factory");
            BadFactory
        }
    };
    let bad_start = {
        let shared = shared.clone();
        move || BadStart(shared.clone())
    };
    let first = Program::new("test", TEST, 1)
        .event(TICK)
        .event(BLOB)
        .handler(make.clone())
        .procedure::<Publish>(proc::PUBLISH, "publish")
        .inline::<Publish>(proc::PUBLISH_INLINE, "publish_inline")
        .asynchronous::<PublishAsync>(proc::PUBLISH_ASYNC, "publish_async")
        .procedure::<PublishEach>(proc::PUBLISH_EACH, "publish_each")
        .procedure::<Subscribe>(proc::SUBSCRIBE, "subscribe")
        .procedure::<Unsubscribe>(proc::UNSUBSCRIBE, "unsubscribe")
        .procedure::<Pass>(proc::GATE, "gate")
        .asynchronous::<PassAsync>(proc::GATE_ASYNC, "gate_async")
        .procedure::<Count>(proc::COUNT, "count")
        .inline::<Count>(proc::COUNT_INLINE, "count_inline")
        .asynchronous::<CountAsync>(proc::COUNT_ASYNC, "count_async")
        .procedure::<Panic>(proc::PANIC, "panic")
        .inline::<Panic>(proc::PANIC_INLINE, "panic_inline")
        .asynchronous::<PanicAsync>(proc::PANIC_ASYNC, "panic_async")
        .asynchronous::<PanicFuture>(proc::PANIC_FUTURE, "panic_future")
        .procedure::<Stop>(proc::STOP, "stop")
        .inline::<Stop>(proc::STOP_INLINE, "stop_inline")
        .asynchronous::<StopAsync>(proc::STOP_ASYNC, "stop_async")
        .procedure::<Grow>(proc::GROW, "grow")
        .procedure::<GrowError>(proc::GROW_ERROR, "grow_error")
        .procedure::<OwnError>(proc::OWN_ERROR, "own_error")
        .procedure::<Unencodable>(proc::UNENCODABLE, "unencodable")
        .procedure::<Pass>(proc::GATE_PRIORITY, "gate_priority")
        .priority()
        .procedure::<LatePanic>(proc::LATE_PANIC, "late_panic")
        .procedure::<AbsentMinded>(proc::ABSENT_MINDED, "absent_minded")
        .inline::<Unencodable>(proc::UNENCODABLE_INLINE, "unencodable_inline")
        .procedure::<BadEncode>(proc::BAD_ENCODE, "bad_encode")
        .inline::<BadEncode>(proc::BAD_ENCODE_INLINE, "bad_encode_inline")
        .inline::<Grow>(proc::GROW_INLINE, "grow_inline")
        .inline::<Hold>(proc::HOLD_INLINE, "hold_inline")
        .asynchronous::<HoldAsync>(proc::HOLD_ASYNC, "hold_async")
        .procedure::<EndThread>(proc::END_THREAD, "end_thread")
        .asynchronous::<EndThreadAsync>(proc::END_THREAD_ASYNC, "end_thread_async")
        .asynchronous::<BadFutureDrop>(proc::BAD_FUTURE_DROP, "bad_future_drop")
        .procedure::<Keepalive>(proc::KEEPALIVE, "keepalive")
        .handler(bad_factory)
        .procedure::<Count>(proc::BAD_FACTORY, "bad_factory")
        .handler(bad_start)
        .procedure::<Count>(proc::BAD_START, "bad_start")
        .handler(|| BadDrop)
        .procedure::<Stop>(proc::BAD_DROP, "bad_drop")
        .procedure::<Panic>(proc::BAD_DROP_PANIC, "bad_drop_panic");
    let second = Program::new("test", TEST, 2).handler(make).procedure::<Count>(proc::COUNT, "count");
    [first.into(), second.into()]
}
