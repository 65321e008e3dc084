//! Calls that end before their result: by a deadline, a cancel packet, or a client that leaves; and calls with keys.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use postroom::{Call, Config, Error, Program};
use postroom_protocol::{Header, Metadata, PacketType};
use serde::{Deserialize, Serialize};

use crate::support::*;

const ENDS: u32 = 0x656e_6473;
const GATE: i32 = 1;
const GATE_TO_END: i32 = 2;
const ASYNC: i32 = 3;
const ASYNC_TO_END: i32 = 4;
const UNTIL_CANCELLED: i32 = 5;
const ABOUT: i32 = 6;
const INLINE: i32 = 7;
const INLINE_LATE: i32 = 8;
/// The door at which a handler waits while it starts.
const LATE: u64 = 1000;
/// The drop of a future that waits at this door takes its time.
const SLOW_TO_DROP: u64 = 77;

/// What became of each call that a handler began with, by its door.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<(u64, &'static str)>>>);

impl Log {
    fn push(&self, door: u64, what: &'static str) {
        self.0.lock().unwrap().push((door, what));
    }

    fn all(&self) -> Vec<(u64, &'static str)> {
        self.0.lock().unwrap().clone()
    }
}

struct Watched {
    gate: Gate,
    log: Log,
}

impl Actor for Watched {
    type Context = Context<Self>;
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<(), Error>")]
struct Pass {
    door: u64,
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<(), Error>")]
struct PassAsync {
    door: u64,
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<(), Error>")]
struct Until {
    door: u64,
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Told, Error>")]
struct About {}

#[derive(Serialize)]
struct Told {
    trace: Option<String>,
    ms_left: Option<u64>,
}

impl Handler<Call<Pass>> for Watched {
    type Result = Result<(), Error>;
    fn handle(&mut self, call: Call<Pass>, _: &mut Self::Context) -> Self::Result {
        self.gate.pass(call.args.door);
        self.log.push(call.args.door, if call.is_cancelled() { "cancelled" } else { "done" });
        Ok(())
    }
}

/// A handler that waits at a door before it takes a call.
struct Late {
    gate: Gate,
    log: Log,
}

impl Actor for Late {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        let gate = self.gate.clone();
        ctx.wait(async move { gate.pass_async(LATE).await }.into_actor(self));
    }
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<(), Error>")]
struct PassLate {
    door: u64,
}

impl Handler<Call<PassLate>> for Late {
    type Result = Result<(), Error>;
    fn handle(&mut self, call: Call<PassLate>, _: &mut Self::Context) -> Self::Result {
        self.log.push(call.args.door, if call.is_cancelled() { "cancelled" } else { "done" });
        Ok(())
    }
}

impl Handler<Call<Until>> for Watched {
    type Result = Result<(), Error>;
    fn handle(&mut self, call: Call<Until>, _: &mut Self::Context) -> Self::Result {
        self.gate.open(call.args.door);
        self.gate.pass(call.args.door);
        eventually("it is cancelled", || call.is_cancelled());
        self.log.push(call.args.door, "cancelled");
        Ok(())
    }
}

impl Handler<Call<PassAsync>> for Watched {
    type Result = ResponseFuture<Result<(), Error>>;
    fn handle(&mut self, call: Call<PassAsync>, _: &mut Self::Context) -> Self::Result {
        struct Dropped(Log, u64, &'static str);
        impl Drop for Dropped {
            fn drop(&mut self) {
                if self.1 == SLOW_TO_DROP {
                    std::thread::sleep(Duration::from_millis(20));
                }
                self.0.push(self.1, self.2);
            }
        }
        let dropped = Dropped(self.log.clone(), call.args.door, "dropped");
        let gate = self.gate.clone();
        Box::pin(async move {
            let mut dropped = dropped;
            gate.pass_async(call.args.door).await;
            dropped.2 = "done";
            Ok(())
        })
    }
}

impl Handler<Call<About>> for Watched {
    type Result = Result<Told, Error>;
    fn handle(&mut self, call: Call<About>, _: &mut Self::Context) -> Self::Result {
        let left = call.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Ok(Told { trace: call.trace().map(str::to_owned), ms_left: left.map(|left| left.as_millis() as u64) })
    }
}

/// One worker, so that a second blocking call waits.
fn service(configure: impl FnOnce(&mut Config)) -> (TestService, Log) {
    let log = Log::default();
    let program = |shared: &Shared| {
        let watched = {
            let (gate, log) = (shared.gate.clone(), log.clone());
            move || Watched { gate: gate.clone(), log: log.clone() }
        };
        let program = Program::new("ends", ENDS, 1)
            .handler(watched)
            .procedure::<Pass>(GATE, "gate")
            .procedure::<Pass>(GATE_TO_END, "gate_to_end")
            .run_to_end()
            .asynchronous::<PassAsync>(ASYNC, "async")
            .asynchronous::<PassAsync>(ASYNC_TO_END, "async_to_end")
            .run_to_end()
            .procedure::<Until>(UNTIL_CANCELLED, "until_cancelled")
            .inline::<About>(ABOUT, "about")
            .inline::<Pass>(INLINE, "inline");
        let (gate, log) = (shared.gate.clone(), log.clone());
        let program = program
            .handler(move || Late { gate: gate.clone(), log: log.clone() })
            .inline::<PassLate>(INLINE_LATE, "inline_late");
        vec![program.into()]
    };
    let service = TestService::with_programs(program, |config| {
        config.limits.min_workers = 1;
        configure(config);
    });
    (service, log)
}

fn plain(procedure: i32, serial: u32, door: u64) -> Vec<u8> {
    call(ENDS, procedure, serial, &map([("door", door.into())]))
}

fn with(metadata: &Metadata, procedure: i32, serial: u32, door: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    postroom_protocol::metadata::encode(metadata, &mut payload);
    payload.extend(map([("door", door.into())]));
    packet(Header { packet_type: PacketType::CallWithMetadata, ..header(ENDS, 1, procedure, serial) }, &payload)
}

fn deadline(ms: u32, procedure: i32, serial: u32, door: u64) -> Vec<u8> {
    with(&Metadata { deadline_ms: Some(ms), ..Metadata::default() }, procedure, serial, door)
}

fn keyed(key: &str, procedure: i32, serial: u32, door: u64) -> Vec<u8> {
    with(&Metadata { key: Some(key.into()), ..Metadata::default() }, procedure, serial, door)
}

fn cancel(procedure: i32, serial: u32) -> Vec<u8> {
    packet(Header { packet_type: PacketType::Cancel, ..header(ENDS, 1, procedure, serial) }, &[])
}

#[test]
fn a_call_that_waits_for_a_worker_is_answered_at_its_deadline_and_never_runs() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    client.send(&plain(GATE, 1, 1));
    service.gate().wait_for(1);
    let sent = Instant::now();
    client.send(&deadline(50, GATE, 2, 2));
    let error = client.error(2);
    assert_eq!(error.code(), "deadline_exceeded");
    assert!(error.message().contains("50 ms"), "{error}");
    assert!(sent.elapsed() >= Duration::from_millis(50), "{:?}", sent.elapsed());
    service.gate().open_all();
    client.reply(1);
    client.send(&plain(GATE, 3, 3));
    client.reply(3);
    assert_eq!(log.all(), [(1, "done"), (3, "done")]);
}

#[test]
fn a_call_that_waits_in_the_backlog_is_answered_at_its_deadline_too() {
    let (service, log) = service(|config| config.limits.max_client_requests = 1);
    let mut client = service.client();
    client.send(&[plain(GATE, 1, 1), deadline(1, GATE, 2, 2), plain(GATE, 3, 3)].concat());
    assert_eq!(client.error(2).code(), "deadline_exceeded");
    service.gate().open_all();
    client.reply(1);
    client.reply(3);
    assert_eq!(log.all(), [(1, "done"), (3, "done")]);
}

/// Makes calls whose deadlines pass, each with more time than the one before, until one has begun in time: if the machine
/// stands still, a call that has little time never begins. Returns the door of that one.
fn begins_and_is_late(service: &TestService, client: &mut Client, procedure: i32) -> u64 {
    for (serial, ms) in (1..).zip([20, 200, 2000, 20_000]) {
        client.send(&deadline(ms, procedure, serial, serial.into()));
        assert_eq!(client.error(serial).code(), "deadline_exceeded");
        if service.gate().entered().contains(&serial.into()) {
            return serial.into();
        }
    }
    panic!("no call has begun within 20 s");
}

#[test]
fn a_blocking_call_that_runs_is_told_of_its_deadline_and_its_late_result_is_thrown_away() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    let door = begins_and_is_late(&service, &mut client, UNTIL_CANCELLED);
    eventually("the handler gave up", || log.all().contains(&(door, "cancelled")));
    client.is_usable();
}

#[test]
fn the_future_of_an_async_call_is_dropped_at_its_deadline_and_its_place_is_free_again() {
    let (service, log) = service(|config| config.limits.max_async_calls = 1);
    let mut client = service.client();
    let door = begins_and_is_late(&service, &mut client, ASYNC);
    eventually("it was dropped", || log.all().contains(&(door, "dropped")));
    let before = service.gate().entered().len();
    client.send(&plain(ASYNC, 100, 100));
    service.gate().wait_for(before + 1);
    service.gate().open_all();
    client.reply(100);
}

#[test]
fn a_call_without_time_never_runs_and_one_in_time_is_answered_as_ever() {
    let (service, log) = service(|_| {});
    service.gate().open_all();
    let mut client = service.client();
    client.send(&deadline(0, GATE, 1, 1));
    assert_eq!(client.error(1).code(), "deadline_exceeded");
    client.send(&deadline(60_000, GATE, 2, 2));
    client.reply(2);
    assert_eq!(log.all(), [(2, "done")]);
}

#[test]
fn hello_sets_a_deadline_for_calls_that_come_without_one() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    assert!(client.call(ENDS, ABOUT, &[])["ms_left"].is_nil());
    let hello = map([("client", "t".into()), ("version", "1".into()), ("deadline_ms", 30_000.into())]);
    client.call(DIRECTORY, 1, &hello);
    let left = client.call(ENDS, ABOUT, &[])["ms_left"].as_u64().unwrap();
    assert!((20_000..=30_000).contains(&left), "{left}");
    let own = Metadata { deadline_ms: Some(90_000), ..Metadata::default() };
    client.send(&with(&own, ABOUT, 1, 0));
    assert!(client.reply(1)["ms_left"].as_u64().unwrap() > 60_000);
    assert!(log.all().is_empty());
}

#[test]
fn a_call_has_nothing_of_the_one_before_it() {
    let (service, _) = service(|config| config.limits.io_arbiters = 1);
    let mut client = service.client();
    let (trace, key) = (Some("00-0af7-b7ad-01".to_owned()), Some(b"a key".to_vec()));
    let all = Metadata { deadline_ms: Some(90_000), trace, key };
    for round in 0..3 {
        client.send(&with(&all, ABOUT, round, 0));
        let told = client.reply(round);
        assert!(!told["trace"].is_nil() && !told["ms_left"].is_nil(), "{told}");
        let told = client.call(ENDS, ABOUT, &[]);
        assert!(told["trace"].is_nil() && told["ms_left"].is_nil(), "{told}");
    }
}

#[test]
fn the_trace_context_reaches_the_handler_and_the_log() {
    let (service, _) = service(|_| {});
    let mut client = service.client();
    let trace = Metadata { trace: Some("00-0af7-b7ad-01".to_owned()), ..Metadata::default() };
    client.send(&with(&trace, ABOUT, 1, 0));
    assert_eq!(client.reply(1)["trace"], "00-0af7-b7ad-01".into());
    drop(service);

    let service = Binary::serve_with("", &["--log", "trace"]);
    let mut client = service.client();
    let mut payload = Vec::new();
    postroom_protocol::metadata::encode(&trace, &mut payload);
    payload.extend(map([]));
    let header = Header { packet_type: PacketType::CallWithMetadata, ..header(ECHO, 1, echo::PANIC, 77) };
    client.send(&packet(header, &payload));
    assert_eq!(client.error(77).code(), "internal");
    // The log is another pipe than the client's socket.
    eventually("the log has the panic", || service.log().contains("the handler of echo.panic panicked"));
    let log = service.log();
    let of_the_call: Vec<&str> = log.lines().filter(|line| line.contains("serial=77")).collect();
    assert!(of_the_call.iter().any(|line| line.contains("panicked")), "{log}");
    assert!(of_the_call.iter().all(|line| line.contains("trace=00-0af7-b7ad-01")), "{of_the_call:#?}");
}

#[test]
fn a_cancelled_call_is_answered_at_once_and_never_runs_if_it_waits() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    client.send(&[plain(GATE, 1, 1), plain(GATE, 2, 2)].concat());
    service.gate().wait_for(1);
    client.send(&cancel(GATE, 2));
    assert_eq!(client.error(2).code(), "cancelled");
    client.send(&cancel(GATE, 1));
    assert_eq!(client.error(1).code(), "cancelled");
    service.gate().open_all();
    eventually("the handler went on", || log.all() == [(1, "cancelled")]);
    client.send(&plain(GATE, 3, 3));
    client.reply(3);
    assert_eq!(log.all(), [(1, "cancelled"), (3, "done")]);
}

#[test]
fn the_future_of_a_cancelled_async_call_is_dropped() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    client.send(&plain(ASYNC, 1, 1));
    service.gate().wait_for(1);
    client.send(&cancel(ASYNC, 1));
    assert_eq!(client.error(1).code(), "cancelled");
    eventually("it was dropped", || log.all() == [(1, "dropped")]);
}

#[test]
fn the_next_call_with_a_key_begins_when_the_future_of_a_cancelled_one_is_dropped() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    service.gate().open(2);
    client.send(&keyed("k", ASYNC, 1, SLOW_TO_DROP));
    service.gate().wait_for(1);
    client.send(&[keyed("k", GATE, 2, 2), cancel(ASYNC, 1)].concat());
    assert_eq!(client.error(1).code(), "cancelled");
    client.reply(2);
    assert_eq!(log.all(), [(SLOW_TO_DROP, "dropped"), (2, "done")]);
}

#[test]
fn cancelling_what_is_answered_or_was_never_called_means_nothing() {
    let (service, _) = service(|_| {});
    service.gate().open_all();
    let mut client = service.client();
    client.send(&plain(GATE, 1, 1));
    client.reply(1);
    client.send(&[cancel(GATE, 1), cancel(GATE, 9), cancel(99, 1)].concat());
    client.is_usable();
}

#[test]
fn of_calls_with_the_same_header_the_oldest_is_cancelled() {
    let (service, _) = service(|_| {});
    let mut client = service.client();
    client.send(&[plain(ASYNC, 1, 1), plain(ASYNC, 1, 2)].concat());
    service.gate().wait_for(2);
    client.send(&cancel(ASYNC, 1));
    assert_eq!(client.error(1).code(), "cancelled");
    service.gate().open(2);
    client.reply(1);
}

#[test]
fn an_inline_call_whose_cancel_packet_comes_with_it_never_runs() {
    let (service, log) = service(|_| {});
    service.gate().open_all();
    let mut client = service.client();
    // Twice, so that the client was also the last one to be read before.
    for serial in [0, 10] {
        client.send(&[plain(INLINE, serial + 1, 1), plain(INLINE, serial + 2, 2), cancel(INLINE, serial + 1)].concat());
        assert_eq!(client.error(serial + 1).code(), "cancelled");
        client.reply(serial + 2);
    }
    assert_eq!(log.all(), [(2, "done"), (2, "done")]);
    let stats = service.running().stats();
    let inline = stats.procedures.iter().find(|procedure| procedure.name == "ends.inline").unwrap();
    let outcomes = ["ok", "cancelled"].map(|outcome| inline.outcomes[outcome]);
    assert_eq!((inline.accepted, outcomes, stats.late_results), (4, [2, 2], 0));
}

#[test]
fn of_inline_calls_with_the_same_header_the_oldest_is_cancelled_whatever_came_with_them() {
    let (service, log) = service(|_| {});
    service.gate().open_all();
    let mut client = service.client();
    let (without, within) = (|door| plain(INLINE, 1, door), |door| deadline(60_000, INLINE, 1, door));
    for [one, other] in [[without(1), without(2)], [without(1), within(2)], [within(1), without(2)]] {
        client.send(&[one, other, cancel(INLINE, 1)].concat());
        assert_eq!(client.error(1).code(), "cancelled");
        client.reply(1);
    }
    assert_eq!(log.all(), [(2, "done"); 3]);
}

#[test]
fn inline_calls_of_a_client_that_turns_out_to_have_left_do_not_run() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    // The handler is there for those that matter.
    service.gate().open(2);
    client.send(&plain(INLINE, 1000, 2));
    client.reply(1000);
    client.send(&(0..256).flat_map(|serial| plain(INLINE, serial, 1)).collect::<Vec<_>>());
    // All of them were read; the first holds up the others.
    service.gate().wait_for(2);
    drop(client);
    service.gate().open_all();
    eventually("it has left", || service.running().stats().clients.connected == 0);
    let stats = service.running().stats();
    let inline = stats.procedures.iter().find(|procedure| procedure.name == "ends.inline").unwrap();
    let [ran, cancelled] = ["ok", "cancelled"].map(|outcome| inline.outcomes[outcome]);
    assert_eq!((inline.accepted, ran + cancelled, log.all().len() as u64), (257, 257, ran));
    assert!(ran < 128, "{ran} ran, though the first replies could not be written");
}

#[test]
fn inline_calls_whose_handler_cannot_take_them_yet_can_be_cancelled_and_end_with_their_client() {
    let (service, log) = service(|config| config.limits.io_arbiters = 1);
    let (mut client, mut leaving) = (service.client(), service.client());
    client.send(&[plain(INLINE_LATE, 1, 1), plain(INLINE_LATE, 2, 2), plain(INLINE_LATE, 3, 3)].concat());
    service.gate().wait_for(1);
    leaving.send(&plain(INLINE_LATE, 4, 4));
    leaving.is_usable();
    drop(leaving);
    eventually("it has left", || service.running().stats().clients.connected == 1);
    // The first is on its way to the handler, the others are behind it.
    for serial in [1, 2] {
        client.send(&cancel(INLINE_LATE, serial));
        assert_eq!(client.error(serial).code(), "cancelled");
    }
    service.gate().open_all();
    client.reply(3);
    client.send(&plain(INLINE_LATE, 5, 5));
    client.reply(5);
    let ran: Vec<u64> = log.all().into_iter().map(|(door, _)| door).collect();
    // The first had begun when it was sent on its way.
    assert!([[3, 5].as_slice(), &[1, 3, 5]].contains(&&ran[..]), "{ran:?}");
}

#[test]
fn when_a_client_leaves_its_calls_are_cancelled() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    client.send(&[plain(UNTIL_CANCELLED, 1, 1), plain(GATE, 2, 2), plain(ASYNC, 3, 3)].concat());
    service.gate().wait_for(2);
    drop(client);
    eventually("the handlers were told", || log.all().len() == 2);
    let mut ended = log.all();
    ended.sort_unstable();
    assert_eq!(ended, [(1, "cancelled"), (3, "dropped")]);
    service.gate().open_all();
    let mut next = service.client();
    next.send(&plain(GATE, 4, 4));
    next.reply(4);
    assert!(log.all().iter().all(|(door, _)| *door != 2), "it waited, so it never ran");
}

#[test]
fn a_client_that_leaves_while_the_service_does_not_read_it_is_noticed() {
    let (service, log) = service(|config| {
        config.limits.max_client_requests = 1;
        config.limits.max_client_backlog = 1;
    });
    let mut client = service.client();
    client.send(&(0..5).flat_map(|serial| plain(UNTIL_CANCELLED, serial, serial.into())).collect::<Vec<_>>());
    service.gate().wait_for(1);
    drop(client);
    eventually("the handler was told", || log.all() == [(0, "cancelled")]);
}

#[test]
fn a_client_that_only_ends_its_input_has_not_left() {
    let (service, log) = service(|_| {});
    let mut client = service.client();
    client.send(&[plain(GATE, 1, 1), plain(ASYNC, 2, 2)].concat());
    client.half_close();
    service.gate().wait_for(2);
    client.silence(Duration::from_millis(50));
    service.gate().open_all();
    let serials = [client.packet().header.serial, client.packet().header.serial];
    assert!(serials.contains(&1) && serials.contains(&2), "{serials:?}");
    client.end();
    assert_eq!(log.all().iter().filter(|(_, what)| *what == "done").count(), 2);
}

#[test]
fn procedures_that_run_to_their_end_do_so_when_their_client_leaves_wherever_the_call_waits() {
    let (service, log) = service(|config| config.limits.max_client_requests = 3);
    let mut client = service.client();
    let calls = [
        plain(GATE_TO_END, 1, 1),
        plain(GATE_TO_END, 2, 2),
        plain(ASYNC_TO_END, 3, 3),
        plain(GATE_TO_END, 4, 4),
        plain(GATE, 5, 5),
    ];
    client.send(&calls.concat());
    service.gate().wait_for(2);
    drop(client);
    service.gate().open_all();
    eventually("all have ended", || log.all().len() == 4);
    let mut ended = log.all();
    ended.sort_unstable();
    assert_eq!(ended, [(1, "done"), (2, "done"), (3, "done"), (4, "done")]);
    service.client().is_usable();
}

#[test]
fn a_client_on_tcp_that_resets_its_connection_has_left() {
    let (service, log) = service(|config| config.listen.push("tcp:127.0.0.1:0".parse().unwrap()));
    let mut client = service.tcp_client();
    client.send(&plain(UNTIL_CANCELLED, 1, 1));
    service.gate().wait_for(1);
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    eventually("the handler was told", || log.all() == [(1, "cancelled")]);
}

#[test]
fn calls_with_the_same_key_run_one_after_the_other_in_order_and_others_do_not_wait() {
    let (service, _) = service(|_| {});
    let mut client = service.client();
    let mut other = service.client();
    client.send(&[keyed("a", ASYNC, 1, 1), keyed("a", ASYNC, 2, 2), keyed("a", ASYNC, 3, 3)].concat());
    client.send(&[keyed("b", ASYNC, 4, 4), plain(ASYNC, 5, 5)].concat());
    other.send(&keyed("a", ASYNC, 1, 6));
    let mut first = service.gate().wait_for(4);
    first.sort_unstable();
    assert_eq!(first, [1, 4, 5, 6]);
    service.gate().open(1);
    client.reply(1);
    assert_eq!(service.gate().wait_for(5)[4], 2);
    service.gate().open_all();
    let mut serials: Vec<u32> = (0..4).map(|_| client.packet().header.serial).collect();
    let position = |serial| serials.iter().position(|&other| other == serial);
    assert!(position(2) < position(3), "{serials:?}");
    serials.sort_unstable();
    assert_eq!(serials, [2, 3, 4, 5]);
    assert_eq!(service.gate().entered()[5], 3);
}

#[test]
fn a_call_waits_for_one_with_its_key_that_was_cancelled_and_still_runs() {
    let (service, log) = service(|config| {
        config.limits.min_workers = 2;
    });
    let mut client = service.client();
    client.send(&[keyed("a", GATE, 1, 1), keyed("a", GATE, 2, 2)].concat());
    service.gate().wait_for(1);
    client.send(&cancel(GATE, 1));
    assert_eq!(client.error(1).code(), "cancelled");
    client.is_usable();
    assert_eq!(service.gate().entered(), [1]);
    service.gate().open(2);
    service.gate().open(1);
    client.reply(2);
    assert_eq!(log.all(), [(1, "cancelled"), (2, "done")]);
}

#[test]
fn when_the_service_stops_what_is_left_at_the_end_of_the_time_is_answered_shutting_down() {
    let (service, log) = service(|config| {
        config.limits.max_client_requests = 3;
        config.limits.shutdown_timeout = Duration::from_millis(50);
    });
    let mut client = service.client();
    let calls = [plain(UNTIL_CANCELLED, 1, 1), plain(GATE, 2, 2), plain(ASYNC, 3, 3), plain(GATE, 4, 4)];
    client.send(&calls.concat());
    service.gate().wait_for(2);
    let report = std::thread::spawn(move || service.stop());
    for _ in 0..4 {
        assert_eq!(client.packet().error().code(), "shutting_down");
    }
    assert_eq!(client.announcement().code(), "shutting_down");
    drop(client);
    let report = report.join().unwrap();
    assert_eq!((report.cut_calls, report.cut_clients), (4, 0));
    assert!(report.abandoned_threads.is_empty(), "{report:?}");
    let mut ended = log.all();
    ended.sort_unstable();
    assert_eq!(ended, [(1, "cancelled"), (3, "dropped")]);
}

#[test]
fn calls_that_were_ended_hold_neither_room_nor_memory() {
    let (service, _) = service(|config| {
        config.limits.max_pending_calls = 20;
        config.limits.max_pending_bytes = 40_000_000;
    });
    let mut client = service.client();
    client.send(&plain(GATE, 0, 0));
    service.gate().wait_for(1);
    let late = Metadata { deadline_ms: Some(30), ..Metadata::default() };
    // As many as may wait, all ended by their deadline; fewer than are looked for at once.
    let calls: Vec<u8> = (100..120).flat_map(|serial| with(&late, GATE, serial, 2)).collect();
    client.send(&calls);
    let codes: Vec<String> = (0..20).map(|_| client.packet().error().code().to_string()).collect();
    assert!(codes.iter().all(|code| code == "deadline_exceeded"), "{codes:?}");
    client.send(&plain(GATE, 2, 2));
    eventually("it waits and was not refused", || service.running().stats().pending.calls == 1);
    // As many bytes as may wait.
    let mut payload = Vec::new();
    postroom_protocol::metadata::encode(&late, &mut payload);
    payload.extend(map([("filling", rmpv::Value::Binary(vec![0; 14_000_000]))]));
    let header = Header { packet_type: PacketType::CallWithMetadata, ..header(ENDS, 1, GATE, 200) };
    for serial in 200..203 {
        client.send(&packet(Header { serial, ..header }, &payload));
    }
    for _ in 200..203 {
        assert_eq!(client.packet().error().code(), "deadline_exceeded");
    }
    // One may have been ended on its way to those that wait.
    eventually("their memory is free", || service.running().stats().pending.bytes < 1000);
    service.gate().open_all();
    client.reply(0);
    client.reply(2);
}

#[test]
fn calls_that_were_ended_make_room_for_others_while_the_workers_are_busy() {
    let (service, _) = service(|config| {
        config.limits.max_pending_calls = 200;
        config.limits.max_client_requests = 10_000;
    });
    let mut client = service.client();
    client.send(&plain(GATE, 0, 0));
    service.gate().wait_for(1);
    // Many times what may wait, if those that were ended went on waiting.
    for serial in 1..=2000 {
        client.send(&[plain(GATE, serial, serial.into()), cancel(GATE, serial)].concat());
        assert_eq!(client.error(serial).code(), "cancelled");
    }
    client.send(&plain(GATE, 3000, 3000));
    service.gate().open_all();
    client.reply(0);
    client.reply(3000);
}
