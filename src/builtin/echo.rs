//! The program `echo`: for trying a service out, for tests and for measuring.
//!
//! It shows each class: `echo`, `hash`, `block` and the like run on a worker's thread, `mirror` and `sleep` are async,
//! `quick` and `whoami` inline. `demo = false` in the configuration turns it off.

use std::time::Duration;

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use postroom_actors::{Blob, Call, Error, Program};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::schema;

/// The number of the program: `echo`.
pub const NUMBER: u32 = 0x6563_686f;
/// Its version.
pub const VERSION: u32 = 1;

/// The program.
pub(crate) fn program() -> Program {
    Program::new("echo", NUMBER, VERSION)
        .handler(|| Echo)
        .procedure::<Parcel>(1, "echo")
        .schema()
        .asynchronous::<Mirror>(2, "mirror")
        .schema()
        .asynchronous::<Sleep>(3, "sleep")
        .schema()
        .procedure::<Block>(4, "block")
        .schema()
        .procedure::<Fail>(5, "fail")
        .schema()
        .procedure::<Panic>(6, "panic")
        .schema()
        .procedure::<Hash>(7, "hash")
        .schema()
        .inline::<WhoAmI>(8, "whoami")
        .schema()
        .procedure::<Block>(9, "nap")
        .schema()
        .priority()
        .inline::<Parcel>(10, "quick")
        .schema()
        .into()
}

/// What `echo` and `quick` get and give back.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Message)]
#[rtype(result = "Result<Parcel, Error>")]
struct Parcel {
    id: u64,
    data: Blob,
}

/// Any value; it is given back.
#[derive(Debug, Deserialize, JsonSchema, Message)]
#[serde(transparent)]
#[rtype(result = "Result<Mirrored, Error>")]
struct Mirror(#[schemars(schema_with = "schema::any")] rmpv::Value);

/// The same value.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(transparent)]
struct Mirrored(#[schemars(schema_with = "schema::any")] rmpv::Value);

/// Waits without holding a thread.
#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Done, Error>")]
struct Sleep {
    ms: u64,
}

/// Holds its thread.
#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Done, Error>")]
struct Block {
    ms: u64,
}

/// Fails as it is told.
#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Done, Error>")]
struct Fail {
    code: String,
    message: String,
}

#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Done, Error>")]
struct Panic {
    n: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Hashed, Error>")]
struct Hash {
    data: Blob,
}

#[derive(Debug, Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Identity, Error>")]
struct WhoAmI {}

/// An empty result: it is sent as an empty map.
#[derive(Debug, JsonSchema, Serialize)]
struct Done {}

#[derive(Debug, JsonSchema, Serialize)]
struct Hashed {
    sha256: Blob,
}

#[derive(Debug, JsonSchema, Serialize)]
struct Identity {
    client_id: u64,
    transport: &'static str,
    uid: Option<u32>,
    gid: Option<u32>,
    pid: Option<i32>,
}

struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Call<Parcel>> for Echo {
    type Result = Result<Parcel, Error>;

    fn handle(&mut self, call: Call<Parcel>, _: &mut Self::Context) -> Self::Result {
        Ok(call.args)
    }
}

impl Handler<Call<Mirror>> for Echo {
    type Result = ResponseFuture<Result<Mirrored, Error>>;

    fn handle(&mut self, call: Call<Mirror>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move { Ok(Mirrored(call.args.0)) })
    }
}

impl Handler<Call<Sleep>> for Echo {
    type Result = ResponseFuture<Result<Done, Error>>;

    fn handle(&mut self, call: Call<Sleep>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(call.args.ms)).await;
            Ok(Done {})
        })
    }
}

impl Handler<Call<Block>> for Echo {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Block>, _: &mut Self::Context) -> Self::Result {
        std::thread::sleep(Duration::from_millis(call.args.ms));
        Ok(Done {})
    }
}

impl Handler<Call<Fail>> for Echo {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Fail>, _: &mut Self::Context) -> Self::Result {
        Err(Error::new(call.args.code, call.args.message))
    }
}

impl Handler<Call<Panic>> for Echo {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Panic>, _: &mut Self::Context) -> Self::Result {
        panic!("as asked, with n = {:?}", call.args.n)
    }
}

impl Handler<Call<Hash>> for Echo {
    type Result = Result<Hashed, Error>;

    fn handle(&mut self, call: Call<Hash>, _: &mut Self::Context) -> Self::Result {
        Ok(Hashed { sha256: Blob::from(&Sha256::digest(&call.args.data)[..]) })
    }
}

impl Handler<Call<WhoAmI>> for Echo {
    type Result = Result<Identity, Error>;

    fn handle(&mut self, call: Call<WhoAmI>, _: &mut Self::Context) -> Self::Result {
        let peer = call.peer();
        Ok(Identity {
            client_id: peer.client_id(),
            transport: peer.transport().as_str(),
            uid: peer.uid(),
            gid: peer.gid(),
            pid: peer.pid(),
        })
    }
}
