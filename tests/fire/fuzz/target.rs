//! What is fuzzed: a service whose procedures take arguments of every form, in every class.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use postroom::{Address, Call, Config, Error, Program, Running, Service};
use postroom_protocol::codec;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tempfile::TempDir;

use super::MAX_PACKET;

/// The number of the program: `fuzz`.
pub const TARGET: u32 = 0x6675_7a7a;
/// How many procedures it has, from 1.
pub const PROCEDURES: i32 = 10;
/// The one that answers with what it was given.
pub const MIRROR: i32 = 2;

struct Target;

impl Actor for Target {
    type Context = Context<Self>;
}

macro_rules! messages {
    ($($name:ident: $args:ty => $result:ty,)*) => {$(
        #[derive(Deserialize, Message)]
        #[serde(transparent)]
        #[rtype(result = "Result<Any, Error>")]
        struct $name($args);

        impl Handler<Call<$name>> for Target {
            type Result = $result;
            fn handle(&mut self, call: Call<$name>, _: &mut Self::Context) -> Self::Result {
                Answer::of(call.args.0)
            }
        }
    )*};
}

messages! {
    Parcel: ParcelArgs => Result<Any, Error>,
    Mirror: rmpv::Value => ResponseFuture<Result<Any, Error>>,
    Shapes: ShapesArgs => Result<Any, Error>,
    Grown: Tree => ResponseFuture<Result<Any, Error>>,
    Nothing: () => Result<Any, Error>,
    Text: String => Result<Any, Error>,
    List: Vec<(u8, Option<f32>, char)> => Result<Any, Error>,
}

/// Any result.
#[derive(Serialize)]
#[serde(transparent)]
struct Any(rmpv::Value);

impl Any {
    fn of(args: &impl Serialize) -> Self {
        let mut bytes = Vec::new();
        codec::encode(args, &mut bytes).unwrap();
        // What is nested a little deeper than its arguments were is no value any more.
        Self(codec::decode(&bytes).unwrap_or(rmpv::Value::Nil))
    }
}

/// A result, or a future of one.
trait Answer {
    fn of(args: impl Serialize) -> Self;
}

impl Answer for Result<Any, Error> {
    fn of(args: impl Serialize) -> Self {
        Ok(Any::of(&args))
    }
}

impl Answer for ResponseFuture<Result<Any, Error>> {
    fn of(args: impl Serialize) -> Self {
        let any = Any::of(&args);
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(any)
        })
    }
}

#[derive(Deserialize, Serialize)]
struct ParcelArgs {
    id: u64,
    data: ByteBuf,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct ShapesArgs {
    small: Option<i8>,
    float: f32,
    letter: char,
    pair: (u16, String),
    kind: Kind,
    table: BTreeMap<String, u64>,
    list: Vec<Option<bool>>,
    four: [u8; 4],
}

#[derive(Default, Deserialize, Serialize)]
enum Kind {
    #[default]
    Unit,
    One(i32),
    Named {
        inner: Box<Option<u8>>,
    },
}

/// Only the limit on nesting ends it.
#[derive(Deserialize, Serialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
    Named { inner: Box<Tree> },
}

/// A running target, on a Unix socket.
pub fn start() -> (Running, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config =
        Config { listen: vec![Address::Unix(folder.path().join("socket"))], demo: false, ..Config::default() };
    config.limits.max_packet = MAX_PACKET;
    config.limits.min_workers = 2;
    config.limits.max_workers = 2;
    config.limits.prio_workers = 1;
    config.limits.io_arbiters = 2;
    // So that a client that says hello with a deadline, and so on, is not pinged meanwhile.
    config.limits.keepalive_interval = Duration::ZERO;
    let program = Program::new("fuzz", TARGET, 1)
        .handler(|| Target)
        .procedure::<Parcel>(1, "parcel")
        .asynchronous::<Mirror>(MIRROR, "mirror")
        .procedure::<Shapes>(3, "shapes")
        .asynchronous::<Grown>(4, "tree")
        .inline::<Nothing>(5, "nothing")
        .procedure::<Parcel>(6, "priority")
        .priority()
        .procedure::<Shapes>(7, "to_end")
        .run_to_end()
        .inline::<Text>(8, "text")
        .procedure::<List>(9, "list")
        .inline::<Parcel>(PROCEDURES, "quick");
    (Service::new(config).program(program).start().unwrap_or_else(|error| panic!("{error}")), folder)
}
