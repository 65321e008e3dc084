//! MessagePack-RPC as the guests speak it: calls as requests, and responses as the replies that they stand for.

use postroom_protocol::rpc::encode;
use postroom_protocol::{Header, PacketType, Status};
use rmpv::Value;

use crate::menu::Dish;
use crate::program::{FIRE, proc};
use crate::support::{DIRECTORY, ECHO, Packet, echo};

/// The header of what came as a response: it says no more of its call than the id, as serial.
pub const RESPONSE: Header = Header {
    program: 0,
    version: 0,
    procedure: i32::MIN,
    packet_type: PacketType::Reply,
    serial: 0,
    status: Status::Ok,
};

/// The message at the front of `input` as a packet, and its length; none if it is not whole.
pub fn read(input: &[u8]) -> Option<(Packet, usize)> {
    let mut rest = input;
    let message = rmpv::decode::read_value(&mut rest).ok()?;
    let length = input.len() - rest.len();
    let parts = message.as_array().expect("a message is an array");
    let packet = match &parts[..] {
        [kind, msgid, error, result] if *kind == 1.into() => {
            let msgid = u32::try_from(msgid.as_u64().expect("an id")).expect("an id of 32 bits");
            let is_error = !error.is_nil();
            assert!(!is_error || result.is_nil(), "an error and a result: {message}");
            let status = if is_error { Status::Error } else { Status::Ok };
            let payload = crate::support::encode(if is_error { error } else { result });
            Packet { header: Header { serial: msgid, status, ..RESPONSE }, payload }
        }
        [kind, method, params] if *kind == 2.into() && method.as_str() == Some("close") => {
            let [error] = &params.as_array().expect("params")[..] else { panic!("no announced close: {message}") };
            Packet { header: Header::ANNOUNCEMENT, payload: crate::support::encode(error) }
        }
        _ => panic!("the service sent {message}"),
    };
    Some((packet, length))
}

/// A call as a request with this id.
pub fn request(msgid: u32, dish: &Dish) -> Vec<u8> {
    let mut out = Vec::new();
    match dish.fault {
        // What a message cannot say is something else that is refused in the same way.
        Some("call with a status") => {
            let message = vec![0.into(), msgid.into(), Value::Nil, Value::Nil];
            return crate::support::encode(&Value::Array(message));
        }
        Some("arguments that do not decode") => encode::request(msgid, &method(dish), &[5], &mut out),
        _ => encode::request(msgid, &method(dish), &dish.arguments, &mut out),
    }
    out
}

/// A call as a notification, which is answered by nothing.
pub fn notification(dish: &Dish) -> Vec<u8> {
    let mut out = Vec::new();
    encode::notification(&method(dish), &dish.arguments, &mut out);
    out
}

fn method(dish: &Dish) -> String {
    match dish.fault {
        Some("unknown program") => return "nobody.home".to_owned(),
        Some("unknown version") => return "directory/77.describe".to_owned(),
        Some("unknown procedure") => return "directory.nothing".to_owned(),
        _ => {}
    }
    let name = match (dish.program, dish.procedure) {
        (FIRE, proc::BLOCKING) => "fire.blocking",
        (FIRE, proc::PRIORITY) => "fire/1.priority",
        (FIRE, proc::TO_END) => "fire.to_end",
        (FIRE, proc::INLINE) => "fire.inline",
        (FIRE, proc::ASYNC) => "fire.async",
        (FIRE, proc::ASYNC_TO_END) => "fire.async_to_end",
        (FIRE, proc::BAD_FACTORY) => "fire.bad_factory",
        (FIRE, proc::BAD_START) => "fire.bad_start",
        (FIRE, proc::BAD_DROP) => "fire.bad_drop",
        (FIRE, proc::BAD_FACTORY_ASYNC) => "fire.bad_factory_async",
        (FIRE, proc::BAD_START_INLINE) => "fire/1.bad_start_inline",
        (ECHO, echo::ECHO) => "echo.echo",
        (ECHO, echo::MIRROR) => "echo.mirror",
        (ECHO, echo::SLEEP) => "echo.sleep",
        (ECHO, echo::BLOCK) => "echo.block",
        (ECHO, echo::FAIL) => "echo.fail",
        (ECHO, echo::PANIC) => "echo.panic",
        (ECHO, echo::HASH) => "echo.hash",
        (ECHO, echo::WHOAMI) => "echo.whoami",
        (ECHO, echo::NAP) => "echo.nap",
        (ECHO, echo::QUICK) => "echo/1.quick",
        (DIRECTORY, 1) => "directory.hello",
        (DIRECTORY, _) => "directory.describe",
        _ => panic!("{dish:?} has no name"),
    };
    name.to_owned()
}
