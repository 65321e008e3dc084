//! The client library against a real service: the same suite over `unix:`, `tcp:` and `local:`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use postroom::client::{CallError, Client, ClientBuilder, Keepalive, Procedure, blocking};
use postroom::{Code, Config};
use postroom_protocol::codec;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::support::{ECHO, TEST, TestService, echo, encode, proc};

#[derive(Clone, Copy)]
enum Way {
    Unix,
    Tcp,
    Local,
}

/// A service, and how to come to it.
struct Place {
    service: TestService,
    way: Way,
}

impl Place {
    fn new(way: Way, configure: impl FnOnce(&mut Config)) -> Self {
        Self { service: TestService::with_tcp(configure), way }
    }

    fn builder(&self) -> ClientBuilder {
        self.service.running().connector("here").builder()
    }

    fn address(&self) -> String {
        match self.way {
            Way::Unix => self.service.address(0).to_string(),
            Way::Tcp => self.service.address(1).to_string(),
            Way::Local => "local:here".to_owned(),
        }
    }

    async fn client(&self) -> Client {
        self.builder().connect(self.address()).await.unwrap()
    }

    fn blocking(&self) -> blocking::Client {
        self.builder().connect_blocking(self.address()).unwrap()
    }
}

#[track_caller]
fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(300), body).await.expect("stuck");
    });
}

macro_rules! over_each_way {
    ($($name:ident)*) => {
        mod unix {
            $( #[test] fn $name() { super::$name(super::Way::Unix) } )*
        }
        mod tcp {
            $( #[test] fn $name() { super::$name(super::Way::Tcp) } )*
        }
        mod local {
            $( #[test] fn $name() { super::$name(super::Way::Local) } )*
        }
    };
}

over_each_way! {
    calls_go_by_number_and_by_name_typed_and_as_bytes
    an_error_comes_with_its_code_its_details_and_its_limit
    every_reply_of_64_tasks_finds_its_caller
    a_deadline_ends_the_call_and_not_the_connection
    a_dropped_call_leaves_the_others_alone
    a_call_that_is_too_large_fails_here_and_names_the_limit
    calls_beyond_the_limit_of_the_service_wait_their_turn
    a_megabyte_goes_both_ways
    every_waiting_caller_learns_that_the_service_stops
    an_idle_connection_is_kept_alive
    threads_share_a_blocking_client
    a_handler_knows_the_way_its_caller_came
}

const ECHO_ECHO: Procedure = Procedure::new(ECHO, 1, echo::ECHO);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Parcel {
    id: u64,
    data: ByteBuf,
}

#[derive(Serialize)]
struct Ms {
    ms: u64,
}

#[derive(Serialize)]
struct Door {
    door: u64,
}

fn parcel(id: u64) -> Parcel {
    Parcel { id, data: id.to_be_bytes().to_vec().into() }
}

fn calls_go_by_number_and_by_name_typed_and_as_bytes(way: Way) {
    let place = Place::new(way, |_| {});
    run(async {
        let client = place.client().await;
        assert_eq!(client.call::<Parcel>(ECHO_ECHO, &parcel(1)).await.unwrap(), parcel(1));
        assert_eq!(client.call::<Parcel>("echo.quick", &parcel(2)).await.unwrap(), parcel(2));
        assert_eq!(client.call::<Parcel>("echo/1.echo", &parcel(3)).await.unwrap(), parcel(3));
        let raw = client.request("echo.mirror").raw_args(encode("as it is")).send_raw().await.unwrap();
        assert_eq!(codec::decode::<String>(&raw).unwrap(), "as it is");
        let unknown = client.call::<()>("echo.ecko", &()).await.unwrap_err();
        assert_eq!(unknown.code(), Some(&Code::UNKNOWN_PROCEDURE));
        assert!(unknown.to_string().contains("did you mean \"echo\"?"), "{unknown}");
    });
}

fn an_error_comes_with_its_code_its_details_and_its_limit(way: Way) {
    let place = Place::new(way, |config| {
        config.limits.max_pending_calls = 1;
        config.limits.min_workers = 1;
    });
    run(async {
        let client = place.client().await;
        let own = client.program("test", TEST, 1).procedure_error(&client).await;
        assert_eq!(own.details().unwrap()["number"], Value::from(7));
        // One call at the gate, one pending, and one more that finds no room.
        let gate = Procedure::new(TEST, 1, proc::GATE);
        let call = || {
            let client = client.clone();
            tokio::spawn(async move { client.call::<Value>(gate, &Door { door: 1 }).await })
        };
        let at_the_gate = call();
        until(|| !place.service.gate().entered().is_empty()).await;
        let pending = call();
        until(|| place.service.running().stats().pending.calls == 1).await;
        let refused = client.call::<Value>(gate, &Door { door: 1 }).await.unwrap_err();
        let CallError::Service(refused) = refused else { panic!("{refused}") };
        assert_eq!(refused.code(), &Code::OVERLOADED);
        assert_eq!(refused.limit(), Some(("max_pending_calls", 1)));
        assert!(refused.retryable() && refused.retry_after_ms().is_some());
        place.service.gate().open_all();
        for call in [at_the_gate, pending] {
            call.await.unwrap().unwrap();
        }
    });
}

/// Lets the connection go on until this has come about; the test's own time limit ends the wait.
async fn until(mut come_about: impl FnMut() -> bool) {
    while !come_about() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Calls `test.own_error` and returns the error that the service answered.
trait OwnError {
    async fn procedure_error(&self, client: &Client) -> postroom::Error;
}

impl OwnError for postroom::client::Program {
    async fn procedure_error(&self, client: &Client) -> postroom::Error {
        let target = Procedure::new(TEST, 1, proc::OWN_ERROR);
        let number = std::collections::BTreeMap::from([("number", 7_u64)]);
        match client.call::<Value>(target, &number).await.unwrap_err() {
            CallError::Service(error) => error,
            other => panic!("{other}"),
        }
    }
}

fn every_reply_of_64_tasks_finds_its_caller(way: Way) {
    let place = Place::new(way, |_| {});
    run(async {
        let client = place.client().await;
        calls_of_64_tasks(&client, 300).await;
    });
}

/// 64 tasks share one connection, each makes so many calls; every reply must be its own.
async fn calls_of_64_tasks(client: &Client, calls_each: u64) {
    let tasks: Vec<_> = (0..64_u64)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for call in 0..calls_each {
                    let sent = parcel(task << 32 | call);
                    assert_eq!(client.call::<Parcel>(ECHO_ECHO, &sent).await.unwrap(), sent);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn a_million_calls_of_64_tasks_on_one_connection_each_get_their_own_reply() {
    let place = Place::new(Way::Unix, |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = place.client().await;
        let all = calls_of_64_tasks(&client, 1_000_000_u64.div_ceil(64));
        tokio::time::timeout(Duration::from_secs(3600), all).await.expect("stuck");
    });
}

fn a_deadline_ends_the_call_and_not_the_connection(way: Way) {
    let place = Place::new(way, |_| {});
    run(async {
        let client = place.client().await;
        let late = client.request("echo.sleep").args(&Ms { ms: 60_000 }).deadline(Duration::from_millis(50));
        assert!(late.send::<Value>().await.unwrap_err().is_deadline());
        assert_eq!(client.call::<Parcel>(ECHO_ECHO, &parcel(1)).await.unwrap(), parcel(1));
    });
}

fn a_dropped_call_leaves_the_others_alone(way: Way) {
    let place = Place::new(way, |_| {});
    run(async {
        let client = place.client().await;
        for id in 0..200 {
            let dropped = client.call::<Value>("echo.sleep", &Ms { ms: 1 });
            let _ = tokio::time::timeout(Duration::from_micros(id * 10), dropped).await;
            assert_eq!(client.call::<Parcel>(ECHO_ECHO, &parcel(id)).await.unwrap(), parcel(id));
        }
    });
}

fn a_call_that_is_too_large_fails_here_and_names_the_limit(way: Way) {
    let place = Place::new(way, |config| config.limits.max_packet = 4096);
    run(async {
        let client = place.client().await;
        let large = Parcel { id: 1, data: vec![0; 5000].into() };
        let error = client.call::<Parcel>(ECHO_ECHO, &large).await.unwrap_err();
        let CallError::Refused(error) = error else { panic!("{error}") };
        assert_eq!((error.code(), error.limit()), (&Code::TOO_LARGE, Some(("max_packet", 4096))));
        assert_eq!(client.call::<Parcel>(ECHO_ECHO, &parcel(1)).await.unwrap(), parcel(1));
    });
}

fn calls_beyond_the_limit_of_the_service_wait_their_turn(way: Way) {
    let place = Place::new(way, |config| config.limits.max_client_requests = 4);
    run(async {
        let client = place.client().await;
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call::<Value>("echo.sleep", &Ms { ms: 1 }).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
}

fn a_megabyte_goes_both_ways(way: Way) {
    let place = Place::new(way, |_| {});
    run(async {
        let client = place.client().await;
        let large = Parcel { id: 1, data: (0..1 << 20).map(|n| n as u8).collect::<Vec<_>>().into() };
        for _ in 0..8 {
            assert_eq!(client.call::<Parcel>(ECHO_ECHO, &large).await.unwrap(), large);
        }
    });
}

fn every_waiting_caller_learns_that_the_service_stops(way: Way) {
    let place = Place::new(way, |config| config.limits.shutdown_timeout = Duration::ZERO);
    run(async {
        let client = place.client().await;
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call::<Value>("echo.sleep", &Ms { ms: 600_000 }).await })
            })
            .collect();
        let idle = place.client().await;
        let stopper = place.service.running().stopper();
        // The calls are under way when one that was made after them is answered.
        tokio::task::yield_now().await;
        client.call::<Parcel>(ECHO_ECHO, &parcel(1)).await.unwrap();
        stopper.stop();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.code(), Some(&Code::SHUTTING_DOWN), "{error}");
        }
        // A client that had nothing under way was told.
        let reason = idle.closed().await;
        assert_eq!(reason.announced().map(postroom::Error::code), Some(&Code::SHUTTING_DOWN), "{reason}");
    });
}

fn an_idle_connection_is_kept_alive(way: Way) {
    let place = Place::new(way, |_| {});
    run(async {
        let keepalive = Keepalive { interval: Duration::from_millis(10), count: 200 };
        let client = place.builder().keepalive(keepalive).connect(place.address()).await.unwrap();
        // Longer than what would end a connection whose pings are not answered.
        let ended = tokio::time::timeout(Duration::from_secs(3), client.closed()).await;
        assert!(ended.is_err(), "{ended:?}");
        assert_eq!(client.call::<Parcel>(ECHO_ECHO, &parcel(1)).await.unwrap(), parcel(1));
    });
}

fn threads_share_a_blocking_client(way: Way) {
    let place = Place::new(way, |_| {});
    let client = Arc::new(place.blocking());
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let client = client.clone();
            std::thread::spawn(move || {
                for call in 0..200 {
                    let sent = parcel(thread << 32 | call);
                    assert_eq!(client.call::<Parcel>(ECHO_ECHO, &sent).unwrap(), sent);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn a_handler_knows_the_way_its_caller_came(way: Way) {
    let place = Place::new(way, |_| {});
    run(async {
        let identity: Value = place.client().await.call("echo.whoami", &()).await.unwrap();
        let expected = match way {
            Way::Unix => "unix",
            Way::Tcp => "tcp",
            Way::Local => "local",
        };
        assert_eq!(identity["transport"], Value::from(expected));
        let own_pid = Value::from(std::process::id());
        assert_eq!(identity["pid"], if matches!(way, Way::Tcp) { Value::Nil } else { own_pid });
    });
}
