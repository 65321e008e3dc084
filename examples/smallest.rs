//! The smallest service: one program, one procedure. `cargo run --example smallest -- --listen unix:/tmp/doubler`
use actix::prelude::*;
use postroom::{Call, Error, Program, Service};

#[derive(serde::Deserialize, serde::Serialize, Message)]
#[rtype(result = "Result<Number, Error>")]
struct Number {
    value: i64,
}

struct Doubler;
impl Actor for Doubler {
    type Context = Context<Self>;
}
impl Handler<Call<Number>> for Doubler {
    type Result = Result<Number, Error>;
    fn handle(&mut self, call: Call<Number>, _: &mut Self::Context) -> Self::Result {
        let value = call.args.value.checked_mul(2);
        Ok(Number { value: value.ok_or_else(|| Error::failed("twice that does not fit"))? })
    }
}
fn main() -> postroom::Result<()> {
    let doubler = Program::new("doubler", 0x6475_626c, 1).handler(|| Doubler).procedure::<Number>(1, "double");
    Service::from_args()?.program(doubler).run()
}
