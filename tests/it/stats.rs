//! The numbers of a service, as `directory.stats` tells them.

use std::time::{Duration, Instant};

use rmpv::Value;

use crate::support::*;

fn stats(client: &mut Client) -> Value {
    client.call(DIRECTORY, 3, &[])
}

fn procedure(stats: &Value, name: &str) -> Value {
    let procedures = stats["procedures"].as_array().unwrap();
    procedures.iter().find(|it| it["name"] == name.into()).unwrap_or_else(|| panic!("no {name} in {stats}")).clone()
}

#[test]
fn calls_are_counted_by_procedure_and_outcome_with_their_times() {
    let service = TestService::start();
    let mut client = service.client();
    for serial in 0..10 {
        client.send(&call(ECHO, echo::ECHO, serial, &parcel(1, b"x")));
        client.reply(serial);
    }
    client.call_error(ECHO, echo::PANIC, &[]);
    client.call_error(ECHO, echo::FAIL, &map([("code", "tea".into()), ("message", "none".into())]));
    client.call_error(ECHO, echo::ECHO, &[]);
    client.call_error(99, 1, &[]);
    let stats = stats(&mut client);
    let echo = procedure(&stats, "echo.echo");
    assert_eq!((&echo["accepted"], &echo["in_progress"]), (&11.into(), &0.into()));
    assert_eq!((&echo["outcomes"]["ok"], &echo["outcomes"]["invalid_arguments"]), (&10.into(), &1.into()));
    for times in ["queued", "ran"] {
        assert_eq!(echo[times]["count"], 11.into(), "{echo}");
        let at = |percentile: &str| echo[times][percentile].as_u64().unwrap();
        assert!(0 < at("p50_ns") && at("p50_ns") <= at("p99_ns") && at("p99_ns") <= at("max_ns"), "{echo}");
    }
    assert_eq!(procedure(&stats, "echo.panic")["outcomes"]["internal"], 1.into());
    assert_eq!(procedure(&stats, "echo.fail")["outcomes"]["own"], 1.into());
    assert_eq!(stats["refused"]["unknown_program"], 1.into());
    // The call that asks is counted as running: it is not answered yet.
    assert_eq!(procedure(&stats, "directory.stats")["in_progress"], 1.into());
}

#[test]
fn the_time_in_the_queue_and_with_the_handler_are_told_apart() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
    });
    let mut client = service.client();
    let pass = |serial: u32| call(TEST, proc::GATE, serial, &map([("door", serial.into())]));
    let start = Instant::now();
    client.send(&pass(1));
    service.gate().wait_for(1);
    // The first has waited for its worker at most for so long, and the second waits for the first for so much longer.
    let first = start.elapsed();
    let second = first * 2 + Duration::from_millis(20);
    client.send(&pass(2));
    eventually("the second waits", || service.running().stats().pending.calls == 1);
    std::thread::sleep(second);
    service.gate().open(1);
    client.reply(1);
    service.gate().wait_for(2);
    // The first has run for as long as the second waited, and the second does for longer.
    std::thread::sleep(start.elapsed() * 2);
    service.gate().open(2);
    client.reply(2);
    let gate = procedure(&stats(&mut client), "test.gate");
    let time = |times: &str, at: &str| Duration::from_nanos(gate[times][at].as_u64().unwrap());
    // They are rounded up by at most a quarter.
    assert!(time("queued", "p50_ns") <= first * 5 / 4, "the first has not waited for long: {first:?}, {gate}");
    assert!(time("queued", "max_ns") >= second, "the second has waited for the first: {second:?}, {gate}");
    assert!(time("ran", "p50_ns") >= second, "the first has run for as long: {second:?}, {gate}");
    assert!(time("ran", "max_ns") > time("queued", "max_ns"), "the second has run for longer than it waited: {gate}");
}

#[test]
fn calls_that_end_early_are_counted_once_and_their_late_results_apart() {
    let service = TestService::start();
    let mut client = service.client();
    client.send(&call(TEST, proc::GATE, 1, &map([("door", 1.into())])));
    service.gate().wait_for(1);
    let cancel = postroom_protocol::Header {
        packet_type: postroom_protocol::PacketType::Cancel,
        ..header(TEST, 1, proc::GATE, 1)
    };
    client.send(&packet(cancel, &[]));
    client.error(1);
    let gate = procedure(&stats(&mut client), "test.gate");
    assert_eq!((&gate["accepted"], &gate["in_progress"]), (&1.into(), &0.into()));
    assert_eq!(gate["outcomes"]["cancelled"], 1.into());
    assert_eq!(gate["ran"]["count"], 0.into());
    service.gate().open_all();
    eventually("its result has come", || stats(&mut client)["late_results"] == 1.into());
    let gate = procedure(&stats(&mut client), "test.gate");
    assert_eq!((&gate["accepted"], &gate["ran"]["count"]), (&1.into(), &1.into()));
}

#[test]
fn clients_are_counted_by_what_they_do_and_limits_by_what_they_did() {
    let service = TestService::with(|config| {
        config.limits.max_client_requests = 1;
        config.limits.max_client_backlog = 2;
        config.limits.max_clients = 3;
    });
    let mut asking = service.client();
    asking.is_usable();
    let mut held = service.client();
    held.send(
        &(0..4).flat_map(|serial| call(TEST, proc::GATE, serial, &map([("door", 1.into())]))).collect::<Vec<_>>(),
    );
    let idle = service.client();
    service.gate().wait_for(1);
    let mut refused = service.client();
    assert_eq!(refused.announcement().code(), "overloaded");
    let is_so = |stats: &Value| {
        let clients = &stats["clients"];
        let counts = ["connected", "idle", "busy", "held", "closing", "gone", "refused"]
            .map(|state| clients[state].as_u64().unwrap());
        counts == [3, 1, 1, 1, 0, 0, 1]
    };
    eventually("all are counted", || is_so(&stats(&mut asking)));
    let limits = stats(&mut asking)["limits"].clone();
    assert_eq!(limits["max_clients"], 1.into());
    assert_eq!((&limits["max_client_requests"], &limits["max_client_backlog"]), (&1.into(), &1.into()));
    service.gate().open_all();
    for _ in 0..4 {
        held.packet();
    }
    drop(idle);
    eventually("one has left, and one is idle", || {
        let clients = stats(&mut asking)["clients"].clone();
        (&clients["connected"], &clients["idle"], &clients["held"]) == (&2.into(), &1.into(), &0.into())
    });
}

#[test]
fn an_embedding_program_reads_the_same_numbers() {
    let service = TestService::start();
    service.client().is_usable();
    let stats = service.running().stats();
    let mirror = stats.procedures.iter().find(|procedure| procedure.name == "echo.mirror").unwrap();
    assert_eq!((mirror.accepted, mirror.outcomes["ok"]), (1, 1));
}

#[test]
fn postroom_list_prints_the_numbers() {
    let service = Binary::serve("");
    let mut client = service.client();
    client.is_usable();
    let run = |more: &[&str]| {
        let mut command = Binary::command();
        command.args(["list", "--stats", "--to", &service.address().to_string()]).args(more);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let text = run(&[]);
    assert!(text.lines().any(|line| line.starts_with("echo.mirror/1") && line.ends_with("1 ok")), "{text}");
    let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    // This one, the command, and perhaps the command before, which is about to be gone.
    assert!((2..=3).contains(&json["clients"]["connected"].as_u64().unwrap()), "{json}");
    client.is_usable();
}
