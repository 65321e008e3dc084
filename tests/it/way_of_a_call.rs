//! The way of a call from connect to reply, as ARCHITECTURE.md tells it, file by file: the log shows each stage.

use crate::support::{Binary, ECHO, call, echo, eventually, parcel};

/// The stages of a call through the pool, each by the module that logs it and what it says.
const STAGES: [(&str, &str); 8] = [
    ("postroom_actors::listener::entrance", "connected at"),
    ("postroom_actors::hub::core", "gives it a reader"),
    ("postroom_actors::reader::client", "the reader starts a call"),
    ("postroom_actors::hub::core", "hands on 1 calls"),
    ("postroom_actors::pool::handover", "was idle and is claimed"),
    ("postroom_actors::worker", "takes it"),
    ("postroom_actors::desk", "the handler of echo.echo runs"),
    ("postroom_actors::reply", "their worker writes 1 replies"),
];

#[test]
fn the_way_of_a_call() {
    let binary = Binary::serve_with("", &["--log", "trace"]);
    let mut client = binary.client();
    client.send(&call(ECHO, echo::ECHO, 7, &parcel(1, b"x")));
    client.packet().value();
    // The worker's line that it was claimed may be written after those of the worker itself: the threads race.
    eventually("all stages are in the log", || {
        STAGES.iter().all(|(module, text)| {
            binary.log().lines().any(|line| line.contains(&format!(" {module} ")) && line.contains(text))
        })
    });
    let log = binary.log();
    let position = |stage: usize| {
        let (module, text) = STAGES[stage];
        log.lines().position(|line| line.contains(&format!(" {module} ")) && line.contains(text))
    };
    // Each stage is one actor's, and they come in this order; only the claim is told by the one that gave it away.
    let order: Vec<_> = [0, 1, 2, 3, 5, 6, 7].map(position).into();
    assert!(order.is_sorted(), "{order:?}\n{log}");
    for stage in [2, 5, 6] {
        let line = log.lines().nth(position(stage).unwrap()).unwrap();
        assert!(line.contains(" client=1 serial=7 "), "{line}");
    }
}
