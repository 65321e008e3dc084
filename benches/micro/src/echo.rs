//! The program that is called: like the service's own `echo`, but for what it takes to be known by others.

use actix::{Actor, Context, Handler, Message};
use postroom_actors::{Call, Error, Program};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub const PROGRAM: u32 = 0x6563_686f;
pub const VERSION: u32 = 1;
/// Runs on the worker's thread.
pub const ECHO: i32 = 1;
/// Runs inline.
pub const QUICK: i32 = 10;

/// What both take and give back.
#[derive(Debug, Deserialize, Serialize, Message)]
#[rtype(result = "Result<Parcel, Error>")]
pub struct Parcel {
    pub id: u64,
    pub data: ByteBuf,
}

impl Parcel {
    /// As most calls of the benchmarks are.
    pub fn small() -> Self {
        Self { id: 7, data: ByteBuf::from([b'x'; 32]) }
    }
}

pub fn program() -> Program {
    let program = Program::new("echo", PROGRAM, VERSION).handler(|| Echo);
    program.procedure::<Parcel>(ECHO, "echo").inline::<Parcel>(QUICK, "quick").into()
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
