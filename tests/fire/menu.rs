//! The menu: the calls that guests may make of a service, and what each may be answered.

use postroom_protocol::{PacketType, Status};
use rmpv::Value;

use crate::chance::Chance;
use crate::program::{Args, FIRE, What, proc};
use crate::support::{DIRECTORY, ECHO, echo, encode, map};

/// One call.
#[derive(Clone, Debug)]
pub struct Dish {
    pub program: u32,
    pub version: u32,
    pub procedure: i32,
    pub packet_type: PacketType,
    pub status: Status,
    pub arguments: Vec<u8>,
    /// The key it has to go with.
    pub key: Option<u64>,
    pub expects: Expects,
    /// What is wrong with it, for the tally.
    pub fault: Option<&'static str>,
}

/// What a call may be answered.
#[derive(Clone, Debug, Default)]
pub struct Expects {
    /// Whether a result is an answer, and what it must repeat: the id, and how much data.
    pub result: Option<(Option<u64>, Option<usize>)>,
    /// Its id: what handlers call it by when they fail.
    pub id: Option<u64>,
    /// The codes of errors that are answers.
    pub codes: &'static [&'static str],
    /// Whether it waits for a worker, and so may be answered `overloaded`.
    pub is_pooled: bool,
    /// Whether it panics each time, so that it may be answered `poisoned` when it is repeated.
    pub panics: bool,
}

/// What a service offers.
#[derive(Clone, Copy, Debug)]
pub enum Menu {
    /// The program `fire`, and whether handlers may end their threads.
    Fire { deaths: bool },
    /// The program `echo`, of the binary.
    Echo,
}

/// A length of data that no reply may have where `max_packet` is that of the storms.
const TOO_MUCH: usize = 80_000;

impl Menu {
    /// Any call; `place` is where it stands among those of its client.
    pub fn any(self, chance: &mut Chance, id: u64, place: u64) -> Dish {
        match chance.within(0..100) {
            0..6 => wrong(chance),
            6..9 => hello(chance),
            _ => match self {
                Self::Fire { deaths } => fire(chance, id, place, deaths),
                Self::Echo => of_echo(chance, id),
            },
        }
    }

    /// A call that is done at once: these come in floods.
    pub fn quick(self, chance: &mut Chance, id: u64) -> Dish {
        match self {
            Self::Fire { deaths } => {
                let procedure = *chance.pick(&[proc::BLOCKING, proc::INLINE, proc::ASYNC, proc::PRIORITY]);
                order(
                    procedure,
                    deaths,
                    Args { id, what: What::Answer as u8, us: 0, bytes: chance.below(64), order: None },
                )
            }
            Self::Echo => parcel(*chance.pick(&[echo::ECHO, echo::QUICK]), id, chance.below(64)),
        }
    }

    /// A call that panics each time. Its id is all by which it differs from others.
    pub fn deadly(self, chance: &mut Chance, id: u64) -> Dish {
        let panics = |dish: Dish| {
            let expects = Expects { result: None, codes: &["internal"], panics: true, ..dish.expects };
            Dish { expects, fault: Some("call that panics again and again"), ..dish }
        };
        match self {
            Self::Fire { deaths } => {
                let procedure = chance.within(1..7) as i32;
                let what = if id.is_multiple_of(2) { What::Panic } else { What::PanicEarly };
                panics(order(procedure, deaths, Args { id, what: what as u8, us: 0, bytes: 0, order: None }))
            }
            Self::Echo => {
                let expects = Expects { id: Some(id), is_pooled: true, ..Expects::default() };
                panics(dish(ECHO, echo::PANIC, map([("n", id.into())]), expects))
            }
        }
    }

    /// A call that holds a worker for a while.
    pub fn slow(self, chance: &mut Chance, id: u64) -> Dish {
        match self {
            Self::Fire { deaths } => {
                let us = chance.within(500..2_000);
                order(proc::BLOCKING, deaths, Args { id, what: What::Answer as u8, us, bytes: 0, order: None })
            }
            Self::Echo => {
                let expects = Expects { result: Some((None, None)), is_pooled: true, ..Expects::default() };
                dish(ECHO, echo::BLOCK, map([("ms", chance.within(1..3).into())]), expects)
            }
        }
    }

    /// A call whose reply is big.
    pub fn big(self, chance: &mut Chance, id: u64) -> Dish {
        let bytes = 5_000 + chance.below(25_000);
        match self {
            Self::Fire { deaths } => {
                let procedure = *chance.pick(&[proc::BLOCKING, proc::INLINE, proc::ASYNC]);
                order(procedure, deaths, Args { id, what: What::Answer as u8, us: 0, bytes, order: None })
            }
            Self::Echo => parcel(*chance.pick(&[echo::ECHO, echo::QUICK]), id, bytes),
        }
    }
}

fn dish(program: u32, procedure: i32, arguments: Vec<u8>, expects: Expects) -> Dish {
    let (packet_type, status) = (PacketType::Call, Status::Ok);
    Dish { program, version: 1, procedure, packet_type, status, arguments, key: None, expects, fault: None }
}

fn order(procedure: i32, deaths: bool, args: Args) -> Dish {
    let is_async = matches!(procedure, proc::ASYNC | proc::ASYNC_TO_END | proc::BAD_FACTORY_ASYNC);
    // A thread that ends takes the async calls that run on it along.
    let codes: &[_] = if is_async && deaths { &["internal"] } else { &[] };
    let is_pooled = !matches!(procedure, proc::INLINE | proc::BAD_START_INLINE);
    let result = Some((Some(args.id), Some(args.bytes)));
    dish(FIRE, procedure, encode(&args), Expects { result, id: Some(args.id), codes, is_pooled, panics: false })
}

fn fire(chance: &mut Chance, id: u64, place: u64, deaths: bool) -> Dish {
    use What::*;
    let procedure = chance.within(1..12) as i32;
    let is_async = matches!(procedure, proc::ASYNC | proc::ASYNC_TO_END | proc::BAD_FACTORY_ASYNC);
    let is_inline = matches!(procedure, proc::INLINE | proc::BAD_START_INLINE);
    let is_plain = procedure <= proc::ASYNC_TO_END;
    let what = match chance.within(0..100) {
        0..45 => Answer,
        45..58 => Panic,
        58..66 if is_plain && !is_inline => Hang,
        66..72 if is_plain || procedure == proc::BAD_DROP => Stop,
        72..75 if is_plain => PanicLater,
        75..78 if is_plain && deaths && !is_inline => EndThread,
        78..84 => OwnError,
        84..88 => Unencodable,
        88..92 if is_async && is_plain => PanicInDrop,
        92..96 if is_async && is_plain => PanicEarly,
        _ => Answer,
    };
    let us = match chance.within(0..10) {
        0..6 => 0,
        6..9 => chance.within(1..500),
        _ => chance.within(500..8_000),
    };
    let bytes = match chance.within(0..40) {
        0..30 => chance.below(100),
        30..39 => chance.below(4_000),
        _ => TOO_MUCH,
    };
    let key = (is_plain && !is_inline && chance.one_in(5)).then(|| chance.within(0..3));
    let us = if is_inline { 0 } else { us };
    let mut dish =
        order(procedure, deaths, Args { id, what: what as u8, us, bytes, order: key.map(|key| (key, place)) });
    dish.key = key;
    let is_bad = matches!(procedure, proc::BAD_FACTORY | proc::BAD_FACTORY_ASYNC | proc::BAD_START)
        || procedure == proc::BAD_START_INLINE;
    let may_fail = is_bad || (deaths && is_async);
    let is_result = !matches!(what, Panic | OwnError | Unencodable | PanicEarly) && bytes < TOO_MUCH;
    if !is_result {
        dish.expects.result = None;
    }
    dish.expects.codes = match what {
        Panic | Unencodable | PanicEarly => &["internal"],
        OwnError if may_fail => &["out_of_water", "internal"],
        OwnError => &["out_of_water"],
        _ if bytes == TOO_MUCH => &["too_large", "internal"],
        // Its result may come before the panic or not.
        PanicInDrop | EndThread => &["internal"],
        _ if may_fail => &["internal"],
        _ => &[],
    };
    dish.fault = match what {
        Panic if is_async => Some("panic in a future"),
        Panic if is_inline => Some("panic in an inline handler"),
        Panic => Some("panic in a blocking handler"),
        PanicEarly => Some("panic before the future"),
        PanicInDrop => Some("panic in the drop of a future"),
        PanicLater => Some("panic outside of a call"),
        Hang => Some("handler that hangs"),
        Stop if procedure == proc::BAD_DROP => Some("panic in the drop of a handler"),
        Stop => Some("handler that stops"),
        EndThread => Some("handler that ends its thread"),
        Unencodable => Some("result that does not encode"),
        _ if bytes == TOO_MUCH => Some("result that is too large"),
        _ => None,
    };
    dish
}

fn parcel(procedure: i32, id: u64, bytes: usize) -> Dish {
    let arguments = map([("id", id.into()), ("data", Value::Binary(vec![id as u8; bytes]))]);
    let is_pooled = procedure != echo::QUICK;
    let expects = Expects { result: Some((Some(id), Some(bytes))), id: Some(id), is_pooled, ..Expects::default() };
    dish(ECHO, procedure, arguments, expects)
}

fn of_echo(chance: &mut Chance, id: u64) -> Dish {
    let expects = |codes: &'static [&'static str]| Expects {
        result: codes.is_empty().then_some((None, None)),
        id: Some(id),
        codes,
        is_pooled: true,
        panics: false,
    };
    let ms = match chance.within(0..10) {
        0..9 => chance.within(0..3),
        _ => chance.within(3..20),
    };
    let ms = map([("ms", ms.into())]);
    match chance.within(0..20) {
        0..6 => parcel(*chance.pick(&[echo::ECHO, echo::QUICK]), id, chance.below(2_000)),
        6..9 => {
            let arguments = map([("id", id.into())]);
            let expects = Expects { result: Some((Some(id), None)), ..expects(&[]) };
            dish(ECHO, echo::MIRROR, arguments, expects)
        }
        9..14 => dish(ECHO, *chance.pick(&[echo::SLEEP, echo::BLOCK, echo::NAP]), ms, expects(&[])),
        14..16 => {
            let message = format!("is out for call {id}");
            let arguments = map([("code", "tea".into()), ("message", message.into())]);
            dish(ECHO, echo::FAIL, arguments, expects(&["tea"]))
        }
        16..18 => {
            let arguments = map([("n", id.into())]);
            Dish {
                fault: Some("panic in a blocking handler"),
                ..dish(ECHO, echo::PANIC, arguments, expects(&["internal"]))
            }
        }
        18 => dish(ECHO, echo::HASH, map([("data", Value::Binary(vec![7; 100]))]), expects(&[])),
        _ => dish(ECHO, echo::WHOAMI, Vec::new(), expects(&[])),
    }
}

/// The greeting, which may set a deadline for all calls that follow.
fn hello(chance: &mut Chance) -> Dish {
    let mut arguments = vec![("client", Value::from("guest")), ("version", "1".into())];
    if chance.one_in(3) {
        arguments.push(("deadline_ms", chance.within(1..50).into()));
    }
    let arguments: Vec<_> = arguments.into_iter().map(|(key, value)| (Value::from(key), value)).collect();
    let expects = Expects { result: Some((None, None)), ..Expects::default() };
    dish(DIRECTORY, 1, encode(&Value::Map(arguments)), expects)
}

/// A call that is wrong in itself.
fn wrong(chance: &mut Chance) -> Dish {
    let refused = |codes| Expects { codes, ..Expects::default() };
    let good = dish(DIRECTORY, 2, Vec::new(), refused(&[]));
    match chance.within(0..5) {
        0 => {
            let expects = refused(&["unknown_program"]);
            Dish { program: 0x7fff_0000 + chance.below(9) as u32, expects, fault: Some("unknown program"), ..good }
        }
        1 => Dish { version: 77, expects: refused(&["unknown_version"]), fault: Some("unknown version"), ..good },
        2 => {
            let procedure = *chance.pick(&[0, -1, 4711, i32::MIN, i32::MAX]);
            Dish { procedure, expects: refused(&["unknown_procedure"]), fault: Some("unknown procedure"), ..good }
        }
        3 => {
            let status = *chance.pick(&[Status::Error, Status::Continue, Status::Unknown(-5)]);
            Dish { status, expects: refused(&["protocol"]), fault: Some("call with a status"), ..good }
        }
        _ => {
            let arguments =
                chance.pick(&[&[0xc1][..], &[0xdd, 0xff, 0xff, 0xff, 0xff], &[0xc0, 0xc0], &[0x81]]).to_vec();
            let expects = refused(&["invalid_arguments"]);
            Dish { arguments, expects, fault: Some("arguments that do not decode"), ..good }
        }
    }
}
