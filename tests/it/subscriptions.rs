//! Events: who subscribed gets them, in order, each once or counted as lost, and nobody else pays for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use postroom::{Event, Publisher};
use postroom_protocol::{Header, PacketType, Status, event, keepalive};
use rmpv::Value;

use crate::support::*;

/// The procedures of `directory`.
const SUBSCRIBE: i32 = 4;
const UNSUBSCRIBE: i32 = 5;

/// An event as it came: its subscription, its value and what was lost before it.
type Came = (u32, u64, u64);

fn wish(event: &str, overflow: &str, queue: u64) -> Vec<u8> {
    map([("program", "test/1".into()), ("event", event.into()), ("overflow", overflow.into()), ("queue", queue.into())])
}

/// Subscribes and returns the number of the subscription.
#[track_caller]
fn subscribe(client: &mut Client, event: &str, overflow: &str, queue: u64) -> u32 {
    number(&client.call(DIRECTORY, SUBSCRIBE, &wish(event, overflow, queue)))
}

fn number(reply: &Value) -> u32 {
    reply["subscription"].as_u64().unwrap().try_into().unwrap()
}

fn unsubscribe(subscription: u32) -> Vec<u8> {
    map([("subscription", subscription.into())])
}

fn publish(first: u64, count: u64) -> Vec<u8> {
    map([("first", first.into()), ("count", count.into())])
}

fn blobs(first: u64, count: u64, bytes: u64) -> Vec<u8> {
    map([("first", first.into()), ("count", count.into()), ("bytes", bytes.into())])
}

/// An event, of a packet that is one: of `tick` or of `blob`.
#[track_caller]
fn event(packet: &Packet) -> Came {
    let Header { program, version, procedure, packet_type, serial, status } = packet.header;
    assert_eq!((program, version, packet_type, status), (TEST, 1, PacketType::Event, Status::Ok), "{packet:?}");
    let payload: event::Payload<Value> = postroom_protocol::codec::decode(&packet.payload).unwrap();
    let value = if procedure == TICK.number() { &payload.value } else { &payload.value["number"] };
    (serial, value.as_u64().unwrap(), payload.lost)
}

/// The next packet, which is to be an event.
#[track_caller]
fn next(client: &mut Client) -> Came {
    event(&client.packet())
}

/// Reads the events of one subscription until the one with this value, checks that each is the next one or says how
/// many are missing, and returns how many were delivered and lost.
#[track_caller]
fn read_until(client: &mut Client, first: u64, last: u64) -> (u64, u64) {
    let (mut due, mut delivered, mut lost) = (first, 0, 0);
    while due <= last {
        let (_, value, missing) = next(client);
        assert_eq!(value, due + missing, "after {delivered} events");
        (due, delivered, lost) = (value + 1, delivered + 1, lost + missing);
    }
    (delivered, lost)
}

fn stats(service: &TestService, name: &str) -> postroom::stats::Event {
    let events = service.running().stats().events;
    events.into_iter().find(|event| event.name == name).unwrap()
}

#[test]
fn whoever_subscribed_gets_what_is_published_in_order_from_every_class_of_handler() {
    let service = TestService::with_tcp(|_| {});
    let (mut unix, mut tcp, mut other) = (service.client(), service.tcp_client(), service.client());
    let subscriptions =
        [subscribe(&mut unix, "tick", "drop_oldest", 100), subscribe(&mut tcp, "tick", "disconnect", 100)];
    assert_ne!(subscriptions[0], subscriptions[1]);
    for (first, procedure) in [(0, proc::PUBLISH), (10, proc::PUBLISH_INLINE), (20, proc::PUBLISH_ASYNC)] {
        other.call(TEST, procedure, &publish(first, 10));
    }
    for (client, subscription) in [&mut unix, &mut tcp].into_iter().zip(subscriptions) {
        let came: Vec<Came> = (0..30).map(|_| next(client)).collect();
        assert_eq!(came, (0..30).map(|value| (subscription, value, 0)).collect::<Vec<Came>>());
    }
    // Who has not subscribed hears nothing but replies.
    other.is_usable();
}

#[test]
fn events_are_published_from_any_thread_of_the_process_and_from_the_event_loop() {
    let service = TestService::start();
    let mut client = service.client();
    subscribe(&mut client, "tick", "drop_oldest", 100);
    let publisher = service.running().publisher("test/1").unwrap();
    let own = publisher.clone();
    std::thread::spawn(move || own.publish(TICK, &1)).join().unwrap();
    assert_eq!(next(&mut client).1, 1);
    let events = service.running().event_loop();
    let timer = postroom::event_loop::Interval::Every(Duration::from_millis(1));
    events.add_timeout(timer, move |_| publisher.publish(TICK, &2)).unwrap();
    assert_eq!(next(&mut client).1, 2);
    assert_eq!(service.running().publisher("tset").unwrap_err().code().as_str(), "unknown_program");
    assert_eq!(service.running().publisher("test/7").unwrap_err().code().as_str(), "unknown_version");
}

#[test]
fn an_event_that_is_published_after_the_reply_to_subscribe_is_seen() {
    let service = TestService::start();
    let publisher = service.running().publisher("test/1").unwrap();
    for value in 0..500 {
        let mut client = service.client();
        subscribe(&mut client, "tick", "drop_oldest", 1);
        publisher.publish(TICK, &value);
        assert_eq!(next(&mut client).1, value);
    }
}

#[test]
fn nothing_comes_after_the_reply_to_unsubscribe_and_the_other_subscription_goes_on() {
    let service = TestService::start();
    let flood = Flood::of(&service);
    let mut client = service.client();
    for _ in 0..200 {
        let kept = subscribe(&mut client, "tick", "drop_oldest", 10);
        let ended = {
            client.send(&call(DIRECTORY, SUBSCRIBE, 7, &wish("tick", "drop_oldest", 10)));
            number(&reply_between_events(&mut client, 7))
        };
        // Until the new one has its first.
        while next(&mut client).0 != ended {}
        client.send(&call(DIRECTORY, UNSUBSCRIBE, 8, &unsubscribe(ended)));
        reply_between_events(&mut client, 8);
        for _ in 0..20 {
            assert_eq!(next(&mut client).0, kept);
        }
        client.send(&call(DIRECTORY, UNSUBSCRIBE, 9, &unsubscribe(kept)));
        reply_between_events(&mut client, 9);
        // Nothing but replies from here on.
        client.is_usable();
    }
    drop(flood);
    let error = client.call_error(DIRECTORY, UNSUBSCRIBE, &unsubscribe(77));
    assert_eq!(error.code().as_str(), "invalid_arguments");
    assert_eq!(stats(&service, "test.tick").subscriptions, 0);
}

/// The reply to this call, whatever events come before it.
#[track_caller]
fn reply_between_events(client: &mut Client, serial: u32) -> Value {
    loop {
        let packet = client.packet();
        if packet.header.packet_type == PacketType::Reply {
            assert_eq!(packet.header.serial, serial);
            return packet.value();
        }
    }
}

/// A thread that publishes numbers until it is dropped.
struct Flood {
    stop: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Flood {
    fn of(service: &TestService) -> Self {
        let publisher = service.running().publisher("test/1").unwrap();
        let stop = Arc::new(AtomicU64::new(0));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut published = 0;
            while told.load(SeqCst) == 0 {
                publisher.publish(TICK, &published);
                published += 1;
                if published.is_multiple_of(64) {
                    // As those who have something else to do as well; one core is enough for this test.
                    std::thread::yield_now();
                }
            }
            published
        });
        Self { stop, thread: Some(thread) }
    }

    /// How many were published.
    fn end(&mut self) -> u64 {
        self.stop.store(1, SeqCst);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn what_a_slow_client_does_not_get_is_counted_exactly_by_either_policy() {
    for overflow in ["drop_oldest", "drop_newest"] {
        let service = TestService::start();
        let publisher = service.running().publisher("test/1").unwrap();
        let mut client = service.client();
        subscribe(&mut client, "blob", overflow, 8);
        // Far more than the socket, the output and the queue take.
        (0..2000).for_each(|number| publisher.publish(BLOB, &blob(number, 4000)));
        let (mut due, mut delivered, mut lost) = (0, 0, 0);
        let mut read = |client: &mut Client| {
            let (_, value, missing) = next(client);
            assert_eq!(value, due + missing, "{overflow}");
            (due, delivered, lost) = (value + 1, delivered + 1, lost + missing);
            (delivered, lost, missing)
        };
        // Not before the hub is through does it get anything, and then all that waits.
        eventually("the hub is through", || {
            let stats = stats(&service, "test.blob");
            stats.delivered + stats.lost + 8 >= 2000
        });
        let mut so_far = (0, 0, 0);
        eventually("all that waited was read", || {
            let stats = stats(&service, "test.blob");
            while so_far.0 < stats.delivered {
                so_far = read(&mut client);
            }
            stats.delivered + stats.lost == 2000
        });
        publisher.publish(BLOB, &blob(2000, 1));
        let (delivered, lost, last) = read(&mut client);
        assert_eq!(delivered + lost, 2001, "{overflow}");
        assert!(lost > 1000 && delivered > 8, "{overflow}: {delivered} delivered, {lost} lost");
        // The newest were dropped, or the oldest: the gap is before this one, or before those that waited.
        assert_eq!(last > 0, overflow == "drop_newest");
        assert_eq!(stats(&service, "test.blob").lost, lost);
    }
}

fn blob(number: u64, bytes: usize) -> Blob {
    Blob { number, data: serde_bytes::ByteBuf::from(vec![7; bytes]) }
}

#[test]
fn a_client_that_wants_no_gap_is_closed_with_the_limit_when_there_is_one() {
    let service = TestService::start();
    let publisher = service.running().publisher("test/1").unwrap();
    let (mut strict, mut other) = (service.client(), service.client());
    subscribe(&mut strict, "blob", "disconnect", 5);
    subscribe(&mut other, "blob", "drop_oldest", 5);
    (0..1000).for_each(|number| publisher.publish(BLOB, &blob(number, 4000)));
    let mut due = 0;
    let error = loop {
        let packet = strict.packet();
        if packet.header == Header::ANNOUNCEMENT {
            break packet.error();
        }
        assert_eq!(event(&packet), (packet.header.serial, due, 0));
        due += 1;
    };
    assert_eq!((error.code().as_str(), error.limit()), ("overloaded", Some(("max_event_queue", 5))));
    strict.end();
    other.send(&call(ECHO, echo::MIRROR, 1, &encode("here")));
    assert_eq!(reply_between_events(&mut other, 1), Value::from("here"));
}

#[test]
fn replies_and_pongs_are_not_behind_the_events_that_wait() {
    let service = TestService::with(|config| config.limits.max_client_output = 1024);
    let mut client = service.client();
    subscribe(&mut client, "blob", "drop_oldest", 500);
    let publisher = service.running().publisher("test/1").unwrap();
    // Much more than the socket and the output take waits then, though no more than `max_client_output` is allowed
    // for replies: events do not count as that.
    (0..400).for_each(|number| publisher.publish(BLOB, &blob(number, 4000)));
    eventually("all are on their way", || {
        let stats = stats(&service, "test.blob");
        stats.published == 400 && stats.delivered > 0 && stats.delivered < 400
    });
    client.send(&call(ECHO, echo::QUICK, 1, &parcel(1, b"")));
    client.send(&keepalive::ping());
    client.send(&call(ECHO, echo::MIRROR, 2, &encode("late")));
    // While the client reads nothing: else it could have read all events before a thread is awake for its call.
    eventually("both calls are answered", || {
        let stats = service.running().stats();
        stats.procedures.iter().filter_map(|procedure| procedure.outcomes.get("ok")).sum::<u64>() == 3
    });
    let (mut events, mut answers) = (0, Vec::new());
    while answers.len() < 3 {
        let packet = client.packet();
        match packet.header {
            Header { packet_type: PacketType::Event, program: TEST, .. } => events += 1,
            header => answers.push((header.program, header.serial)),
        }
    }
    answers.sort_unstable();
    assert_eq!(answers, [(ECHO, 1), (ECHO, 2), (keepalive::PROGRAM, 0)]);
    assert!(events < 200, "{events} events came before the replies");
    while events < 400 {
        next(&mut client);
        events += 1;
    }
    assert_eq!(service.running().stats().clients.held, 0);
}

#[test]
fn a_flood_of_events_does_not_hold_up_the_calls_of_others_nor_of_the_subscriber() {
    let service = TestService::with(|config| config.limits.io_arbiters = 1);
    let (mut client, mut other) = (service.client(), service.client());
    let subscription = subscribe(&mut client, "tick", "drop_oldest", 100);
    let mut flood = Flood::of(&service);
    let mut due = None;
    let mut check = |packet: &Packet| {
        let (from, value, lost) = event(packet);
        assert_eq!(from, subscription);
        if let Some(due) = due.replace(value + 1) {
            assert_eq!(value, due + lost);
        }
        value
    };
    for serial in 0..300 {
        other.is_usable();
        client.send(&call(ECHO, echo::MIRROR, serial, &encode("both")));
        loop {
            let packet = client.packet();
            if packet.header.packet_type == PacketType::Reply {
                assert_eq!(packet.value(), Value::from("both"));
                break;
            }
            check(&packet);
        }
    }
    let published = flood.end();
    // Everything that was published after it had subscribed was delivered or lost.
    service.running().publisher("test/1").unwrap().publish(TICK, &published);
    while check(&client.packet()) != published {}
    eventually("all is counted", || {
        let stats = stats(&service, "test.tick");
        stats.published == stats.delivered + stats.lost
    });
}

#[test]
fn a_subscriber_that_never_reads_costs_bounded_memory_and_slows_nobody() {
    let service = TestService::with(|config| config.limits.max_client_event_bytes = 100_000);
    let (mut deaf, mut client) = (service.client(), service.client());
    subscribe(&mut deaf, "blob", "drop_newest", 1000);
    subscribe(&mut client, "blob", "drop_oldest", 1000);
    let publisher = service.running().publisher("test/1").unwrap();
    for number in 0..300 {
        publisher.publish(BLOB, &blob(number, 10_000));
        assert_eq!(next(&mut client).1, number);
    }
    let stats = stats(&service, "test.blob");
    assert_eq!(stats.subscriptions, 2);
    // What was not lost lies in the socket, in the output and in the queue.
    assert!(stats.lost >= 300 - 10 - (64 + 256 + 256) / 10, "{stats:?}");
    let (delivered, lost) = read_until(&mut deaf, 0, 5);
    assert_eq!((delivered, lost), (6, 0));
}

#[test]
fn what_many_threads_publish_comes_in_the_order_of_each() {
    let service = TestService::start();
    let mut client = service.client();
    subscribe(&mut client, "tick", "disconnect", 1000);
    let publisher = service.running().publisher("test/1").unwrap();
    let (threads, each) = (8, 2000);
    // None is ahead of what is read by more than the queue takes.
    let read = Arc::new(AtomicU64::new(0));
    let published = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = (0..threads)
        .map(|thread| {
            let (publisher, read, published): (Publisher, _, _) = (publisher.clone(), read.clone(), published.clone());
            std::thread::spawn(move || {
                for number in 0..each {
                    while published.load(SeqCst) > read.load(SeqCst) + 500 {
                        std::thread::yield_now();
                    }
                    published.fetch_add(1, SeqCst);
                    publisher.publish(TICK, &(thread << 32 | number));
                }
            })
        })
        .collect();
    let mut due = vec![0; threads as usize];
    for _ in 0..threads * each {
        let (_, value, lost) = next(&mut client);
        let (thread, number) = ((value >> 32) as usize, value & 0xffff_ffff);
        assert_eq!((number, lost), (due[thread], 0));
        due[thread] += 1;
        read.fetch_add(1, SeqCst);
    }
    publishers.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = stats(&service, "test.tick");
    assert_eq!((stats.published, stats.lost), (threads * each, 0));
}

#[test]
fn what_comes_faster_than_a_hub_takes_it_is_counted_as_lost() {
    let service = TestService::with(|config| {
        config.limits.io_arbiters = 1;
        config.limits.max_published_events = 10;
    });
    let (mut client, mut strict) = (service.client(), service.client());
    subscribe(&mut client, "tick", "drop_newest", 1000);
    subscribe(&mut strict, "tick", "disconnect", 1000);
    // From the hub's own thread, so that it takes nothing meanwhile.
    client.send(&call(TEST, proc::PUBLISH_INLINE, 1, &publish(0, 100)));
    reply_between_events(&mut client, 1);
    let publisher = service.running().publisher("test/1").unwrap();
    // The ones that were taken are there before the next, which says how many were not.
    eventually("the hub is through", || stats(&service, "test.tick").lost == 90);
    publisher.publish(TICK, &100);
    let mut came = vec![next(&mut client)];
    while came.last().unwrap().1 < 100 {
        came.push(next(&mut client));
    }
    // Those that came before the reply are not among them.
    assert_eq!(came.last().map(|(_, value, lost)| (*value, *lost)), Some((100, 90)));
    let error = loop {
        let packet = strict.packet();
        if packet.header == Header::ANNOUNCEMENT {
            break packet.error();
        }
    };
    assert_eq!(error.limit(), Some(("max_published_events", 10)));
}

#[test]
fn a_thousand_subscribers_all_get_everything() {
    let service = TestService::start();
    let mut clients: Vec<Client> = (0..1000).map(|_| service.client()).collect();
    for client in &mut clients {
        subscribe(client, "tick", "disconnect", 100);
    }
    assert_eq!(stats(&service, "test.tick").subscriptions, 1000);
    let publisher = service.running().publisher("test/1").unwrap();
    (0..100).for_each(|number| publisher.publish(TICK, &number));
    for client in &mut clients {
        assert_eq!(read_until(client, 0, 99), (100, 0));
    }
    eventually("all is counted", || stats(&service, "test.tick").delivered == 100_000);
    drop(clients);
    eventually("all subscriptions have ended", || stats(&service, "test.tick").subscriptions == 0);
    // Nobody wants them any more: not even looked at.
    publisher.publish(TICK, &0);
    assert_eq!(stats(&service, "test.tick").published, 100);
}

#[test]
fn subscribers_are_told_that_the_service_stops() {
    let service = TestService::start();
    let mut client = service.client();
    subscribe(&mut client, "tick", "drop_oldest", 100);
    let publisher = service.running().publisher("test/1").unwrap();
    (0..10).for_each(|number| publisher.publish(TICK, &number));
    let report = std::thread::spawn(move || service.stop());
    assert_eq!(read_until(&mut client, 0, 9), (10, 0));
    assert_eq!(client.announcement().code().as_str(), "shutting_down");
    drop(client);
    assert!(report.join().unwrap().is_clean());
    // A publisher that is left over has nobody to tell.
    publisher.publish(TICK, &10);
}

#[test]
fn the_limits_of_subscribing_speak() {
    let service = TestService::with(|config| {
        config.limits.max_client_subscriptions = 2;
        config.limits.max_event_queue = 100;
    });
    let mut client = service.client();
    let too_long = client.call_error(DIRECTORY, SUBSCRIBE, &wish("tick", "drop_oldest", 101));
    assert_eq!(too_long.code().as_str(), "invalid_arguments");
    assert_eq!(too_long.limit(), Some(("max_event_queue", 100)));
    assert!(client.call_error(DIRECTORY, SUBSCRIBE, &wish("tick", "drop_oldest", 0)).message().contains("1 to"));
    // The queue that nobody asks for fits the limit.
    client.call(DIRECTORY, SUBSCRIBE, &map([("program", "test/1".into()), ("event", "tick".into())]));
    let second = subscribe(&mut client, "blob", "disconnect", 1);
    let too_many = client.call_error(DIRECTORY, SUBSCRIBE, &wish("tick", "drop_oldest", 1));
    assert_eq!((too_many.code().as_str(), too_many.limit()), ("overloaded", Some(("max_client_subscriptions", 2))));
    client.call(DIRECTORY, UNSUBSCRIBE, &unsubscribe(second));
    subscribe(&mut client, "blob", "disconnect", 1);
    // Another client has its own.
    subscribe(&mut service.client(), "tick", "drop_oldest", 1);
    let limits = service.running().stats().limits;
    assert_eq!((limits["max_client_subscriptions"], limits["max_event_queue"]), (1, 2));
}

#[test]
fn what_nobody_has_declared_is_told_with_what_there_is() {
    let service = TestService::start();
    let mut client = service.client();
    let mut ask = |program: &str, event: &str, overflow: &str| {
        let fields = [("program", program.into()), ("event", event.into()), ("overflow", overflow.into())];
        let error = client.call_error(DIRECTORY, SUBSCRIBE, &map(fields));
        (error.code().as_str().to_owned(), error.message().to_owned())
    };
    assert_eq!(ask("tset", "tick", "drop_oldest").0, "unknown_program");
    assert_eq!(ask("test/9", "tick", "drop_oldest").0, "unknown_version");
    let (code, message) = ask("test/1", "tock", "drop_oldest");
    assert!(code == "invalid_arguments" && message.contains("tick, blob"), "{message}");
    // Its second version has none.
    assert!(ask("test", "tick", "drop_oldest").1.contains("it has none"));
    assert!(ask("test/1", "tick", "drop").1.contains("drop_newest"));
    let description = client.call(DIRECTORY, 2, &[]);
    let programs = description["programs"].as_array().unwrap();
    let test = programs.iter().find(|it| it["name"].as_str() == Some("test") && it["version"].as_u64() == Some(1));
    let events = test.unwrap()["events"].as_array().unwrap();
    assert_eq!((events[0]["number"].as_u64(), events[0]["name"].as_str()), (Some(1), Some("tick")));
    assert_eq!(events[0]["value"]["type"].as_str(), Some("integer"));
    assert_eq!(events[1]["name"].as_str(), Some("blob"));
}

#[test]
fn a_program_subscribes_its_callers_by_procedures_of_its_own() {
    let service = TestService::start();
    let (mut client, mut other) = (service.client(), service.client());
    let own = map([("serial", 0.into()), ("queue", 10.into())]);
    let reply = |client: &mut Client, payload: &[u8]| client.call(TEST, proc::SUBSCRIBE, payload).as_u64().unwrap();
    let first = reply(&mut client, &own);
    let second = reply(&mut client, &encode(&()));
    // The first chose its serial, as those of libvirt have none.
    let (zero, own) = (0, second as u32);
    let each = |value: u64, others: Value| map([("to", second.into()), ("value", value.into()), ("others", others)]);
    // Each gets its own value, or none.
    other.call(TEST, proc::PUBLISH_EACH, &each(2, 1.into()));
    let mut came = [next(&mut client), next(&mut client)];
    came.sort_unstable();
    assert_eq!(came, [(zero, 1, 0), (own, 2, 0)]);
    other.call(TEST, proc::PUBLISH_EACH, &each(4, Value::Nil));
    assert_eq!(next(&mut client), (own, 4, 0));
    // What goes to all goes to each, and nothing was lost by what was not for it.
    other.call(TEST, proc::PUBLISH, &publish(9, 1));
    let mut came = [next(&mut client), next(&mut client)];
    came.sort_unstable();
    assert_eq!(came, [(zero, 9, 0), (own, 9, 0)]);
    // Nobody ends the subscription of another.
    let payload = unsubscribe(first as u32);
    assert_eq!(other.call_error(TEST, proc::UNSUBSCRIBE, &payload).code().as_str(), "invalid_arguments");
    client.call(TEST, proc::UNSUBSCRIBE, &payload);
    other.call(TEST, proc::PUBLISH, &publish(10, 1));
    assert_eq!(next(&mut client), (own, 10, 0));
    client.is_usable();
}

#[test]
fn the_directory_tells_who_comes_and_goes() {
    let service = TestService::with_tcp(|_| {});
    let mut watcher = service.client();
    let fields = [("program", "directory".into()), ("event", "clients".into())];
    watcher.call(DIRECTORY, SUBSCRIBE, &map(fields));
    let mut change = || {
        let packet = watcher.packet();
        assert_eq!((packet.header.program, packet.header.procedure), (DIRECTORY, 1));
        let payload: event::Payload<Value> = postroom_protocol::codec::decode(&packet.payload).unwrap();
        let text = |key: &str| payload.value[key].as_str().unwrap().to_owned();
        let uid = payload.value["uid"].as_u64();
        (payload.value["client_id"].as_u64().unwrap(), text("transport"), text("state"), uid)
    };
    let own = Some(u64::from(rustix::process::getuid().as_raw()));
    let client = service.client();
    let (id, transport, state, uid) = change();
    assert_eq!((&*transport, &*state, uid), ("unix", "connected", own));
    drop(client);
    assert_eq!(change(), (id, transport, "left".to_owned(), own));
    drop(service.tcp_client());
    assert_eq!((change().1, change().3), ("tcp".to_owned(), None));
}

#[test]
fn an_event_that_cannot_be_sent_counts_as_lost() {
    let service = TestService::with(|config| config.limits.max_packet = 4096);
    let mut client = service.client();
    subscribe(&mut client, "blob", "drop_oldest", 10);
    let publisher = service.running().publisher("test/1").unwrap();
    publisher.publish(BLOB, &blob(0, 10));
    publisher.publish(BLOB, &blob(1, 5000));
    // One that was not declared, and one with a value of another type, are nobody's.
    publisher.publish(Event::<u64>::new(77, "unheard"), &1);
    publisher.publish(Event::<u64>::new(2, "blob"), &1);
    publisher.publish(BLOB, &blob(2, 10));
    let came = [next(&mut client), next(&mut client)];
    assert_eq!(came.map(|(_, value, lost)| (value, lost)), [(0, 0), (2, 1)]);
}

#[test]
fn a_client_with_a_subscription_is_not_idle() {
    let service = TestService::with(|config| config.limits.idle_timeout = Duration::from_millis(500));
    let mut subscriber = service.client();
    let subscription = subscribe(&mut subscriber, "tick", "drop_oldest", 10);
    let mut idle = service.client();
    assert_eq!(idle.announcement().code().as_str(), "idle_timeout");
    subscriber.silence(Duration::from_millis(600));
    subscriber.call(DIRECTORY, UNSUBSCRIBE, &unsubscribe(subscription));
    assert_eq!(subscriber.announcement().code().as_str(), "idle_timeout");
}

#[test]
fn events_of_any_size_go_whole_to_all_who_want_them() {
    let service = TestService::start();
    let mut clients = [service.client(), service.client()];
    for client in &mut clients {
        subscribe(client, "blob", "disconnect", 10);
    }
    let sizes = [0, 1, 4095, 4096, 100_000, 5_000_000, 3];
    let mut publisher = service.client();
    for (number, size) in (0..).zip(sizes) {
        publisher.call(TEST, proc::PUBLISH, &blobs(number, 1, size));
        for client in &mut clients {
            let packet = client.packet();
            assert_eq!(event(&packet).1, number);
            let payload: event::Payload<Blob> = postroom_protocol::codec::decode(&packet.payload).unwrap();
            assert_eq!(payload.value.data.len() as u64, size);
        }
    }
}

/// A runtime for a client with async.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_client_reads_events_as_a_stream_by_every_transport() {
    let service = TestService::with_tcp(|_| {});
    let publisher = service.running().publisher("test/1").unwrap();
    let addresses = [service.address(0).to_string(), service.address(1).to_string(), "local:here".to_owned()];
    let connector = service.running().connector("here");
    runtime().block_on(async {
        for address in &addresses {
            let client = connector.builder().connect(address.as_str()).await.unwrap();
            let mut events = client.subscribe::<u64>("test/1.tick").await.unwrap();
            (0..100).for_each(|value| publisher.publish(TICK, &value));
            for value in 0..100 {
                let event = events.next().await.unwrap().unwrap();
                assert_eq!((event.value, event.lost), (value, 0), "{address}");
            }
            // A call is answered between events, and another subscription is another stream.
            let mut blobs = client.subscribe::<Blob>("test/1.blob").queue(1).await.unwrap();
            publisher.publish(BLOB, &blob(7, 3));
            assert_eq!(client.call::<String>("echo.mirror", "x").await.unwrap(), "x");
            assert_eq!(blobs.next().await.unwrap().unwrap().value.number, 7);
            drop(events);
            // The runtime of the client is this thread: a call lets it send what it has to.
            assert_eq!(client.call::<String>("echo.mirror", "x").await.unwrap(), "x");
            eventually("it has unsubscribed", || stats(&service, "test.tick").subscriptions == 0);
            assert_eq!(stats(&service, "test.blob").subscriptions, 1);
            drop(blobs);
            client.close().await;
            eventually("all have ended", || stats(&service, "test.blob").subscriptions == 0);
        }
    });
}

#[test]
fn a_client_that_does_not_take_its_events_has_its_calls_answered_and_learns_what_it_missed() {
    let service = TestService::start();
    let publisher = service.running().publisher("test/1").unwrap();
    let address = service.address(0).to_string();
    runtime().block_on(async {
        let client = postroom::client::Client::connect(address.as_str()).await.unwrap();
        for overflow in [postroom::Overflow::DropOldest, postroom::Overflow::DropNewest] {
            let mut events = client.subscribe::<u64>("test/1.tick").overflow(overflow).queue(10).await.unwrap();
            for value in 0..1000 {
                publisher.publish(TICK, &value);
                if value % 100 == 0 {
                    assert_eq!(client.call::<u64>("echo.mirror", &value).await.unwrap(), value);
                }
            }
            eventually("all are on their way", || {
                let stats = stats(&service, "test.tick");
                stats.published == stats.delivered + stats.lost
            });
            // They came before this, and those of them that were too many were dropped here.
            assert_eq!(client.call::<u64>("echo.mirror", &1).await.unwrap(), 1);
            let (mut due, mut taken) = (0, 0);
            while taken < 10 {
                let event = events.next().await.unwrap().unwrap();
                assert_eq!(event.value, due + event.lost);
                (due, taken) = (event.value + 1, taken + 1);
            }
            publisher.publish(TICK, &1000);
            let last = events.next().await.unwrap().unwrap();
            assert_eq!((last.value, last.lost), (1000, 1000 - due), "{overflow}");
        }
    });
}

#[test]
fn a_subscription_without_gaps_ends_with_the_limit_here_or_there() {
    let service = TestService::start();
    let publisher = service.running().publisher("test/1").unwrap();
    let address = service.address(0).to_string();
    let client = postroom::client::blocking::Client::connect(address.as_str()).unwrap();
    let wish = client.subscribe::<u64>("test/1.tick").overflow(postroom::Overflow::Disconnect).queue(5);
    let events = wish.open().unwrap();
    for value in 0..10 {
        publisher.publish(TICK, &value);
        eventually("it is on its way", || stats(&service, "test.tick").delivered == value + 1);
    }
    // They were read by the client's own thread, whoever takes them; here there was room for five.
    assert_eq!(client.call::<u64>("echo.mirror", &1).unwrap(), 1);
    let came: Vec<_> = events.collect();
    assert_eq!(came.len(), 6, "{came:?}");
    assert!(matches!(came[5], Err(postroom::client::SubscriptionError::Overflowed(_))), "{came:?}");
    assert_eq!(client.call::<u64>("echo.mirror", &2).unwrap(), 2);
}

#[test]
fn the_blocking_client_iterates_over_events_until_its_service_stops() {
    let service = TestService::start();
    let publisher = service.running().publisher("test/1").unwrap();
    let address = service.address(0).to_string();
    let client = postroom::client::blocking::Client::connect(address.as_str()).unwrap();
    let mut events = client.subscribe::<u64>("test/1.tick").open().unwrap();
    assert!(events.next_within(Duration::from_millis(1)).is_none());
    // The subscription is enough to keep the connection.
    drop(client);
    publisher.publish(TICK, &1);
    assert_eq!(events.next().unwrap().unwrap().value, 1);
    assert!(service.stop().is_clean());
    let error = events.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("shutting_down"), "{error}");
    assert!(events.next().is_none());
}

#[test]
fn a_value_of_another_type_is_an_error_of_that_event_alone() {
    let service = TestService::start();
    let publisher = service.running().publisher("test/1").unwrap();
    let address = service.address(0).to_string();
    let client = postroom::client::blocking::Client::connect(address.as_str()).unwrap();
    let mut events = client.subscribe::<u8>("test/1.tick").open().unwrap();
    [1, 1000, 2].iter().for_each(|value| publisher.publish(TICK, value));
    let came: Vec<Option<u8>> = events.by_ref().take(3).map(|event| event.ok().map(|event| event.value)).collect();
    assert_eq!(came, [Some(1), None, Some(2)]);
    let unknown = client.subscribe::<u8>("test/1.tock").open().unwrap_err();
    assert_eq!(unknown.code().unwrap().as_str(), "invalid_arguments");
}

#[test]
fn a_client_of_messagepack_rpc_gets_events_as_notifications() {
    let service = TestService::start();
    let mut client = service.client();
    let array = |values: &[Value]| Value::Array(values.to_vec());
    let wish = array(&["test/1".into(), "tick".into(), "drop_oldest".into(), 8.into()]);
    client.send(&request(1, "directory.subscribe", &wish));
    let subscription = client.result_of(1)["subscription"].clone();
    let mut publisher = service.client();
    publisher.call(TEST, proc::PUBLISH, &publish(5, 3));
    for number in 5..8_u64 {
        let expected = array(&[2.into(), "test.tick".into(), array(&[number.into(), 0.into()])]);
        assert_eq!(client.try_message().unwrap(), Some(expected));
    }
    client.send(&request(2, "directory.unsubscribe", &array(&[subscription])));
    client.result_of(2);
    publisher.call(TEST, proc::PUBLISH, &publish(8, 1));
    client.send(&request(3, "echo.mirror", &array(&["behind".into()])));
    assert_eq!(client.result_of(3), array(&["behind".into()]));
}
