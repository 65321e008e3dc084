//! A subscriber: a guest that listens to what the service publishes while all the others make trouble, reads it now
//! quickly, now slowly or not at all, and holds each event against the ones before it: none twice, none out of order,
//! and each one delivered or counted as lost.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use postroom::{Address, Event, Publisher};
use postroom_protocol::{Header, PacketType, codec, event};
use rmpv::Value;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::chance::Chance;
use crate::guest::{PACKET_TIMEOUT, Visit, WRITE_TIMEOUT};
use crate::ledger::Weather;
use crate::program::FIRE;
use crate::support::{Client, DIRECTORY, Packet, call, map};
use crate::tally::Tally;

/// The event that everybody listens to.
pub const SPARK: Event<Spark> = Event::new(1, "spark");

/// The serial of calls that subscribe.
const SUBSCRIBE: u32 = 1;

/// A number, counted up, and some bytes.
#[derive(Serialize, Deserialize)]
pub struct Spark {
    number: u64,
    data: ByteBuf,
}

/// How many sparks there were. Only one thread publishes them.
#[derive(Debug, Default)]
pub struct Sparks(AtomicU64);

impl Sparks {
    /// Publishes some.
    pub fn fly(&self, publisher: &Publisher, chance: &mut Chance) {
        let bytes = *chance.pick(&[0, 10, 100, 5_000]);
        for _ in 0..chance.within(1..200) {
            let number = self.0.load(SeqCst);
            publisher.publish(SPARK, &Spark { number, data: ByteBuf::from(vec![1; bytes]) });
            self.0.store(number + 1, SeqCst);
        }
    }

    /// How many were published, but for one that may be on its way.
    fn count(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// What is known of a subscription.
struct Account {
    subscription: u32,
    /// The number of its first event is one of these.
    begins: (u64, u64),
    due: Option<u64>,
}

impl Account {
    fn takes(&mut self, packet: &Packet, number: u64) {
        let spark: event::Payload<Spark> = codec::decode(&packet.payload).unwrap();
        assert_eq!(packet.header.serial, self.subscription, "subscriber {number}");
        let first = spark.value.number.checked_sub(spark.lost);
        match self.due {
            Some(due) => assert_eq!(first, Some(due), "subscriber {number}: {} were lost", spark.lost),
            None => {
                let (low, high) = self.begins;
                let is_first = first.is_some_and(|first| (low..=high).contains(&first));
                assert!(is_first, "subscriber {number}: {first:?} is none of {low} to {high}");
            }
        }
        self.due = Some(spark.value.number + 1);
    }
}

struct Subscriber<'a> {
    client: Client,
    number: u64,
    tally: Tally,
    weather: &'a Weather,
    sparks: &'a Sparks,
    account: Option<Account>,
    /// When it last read, and the longest time that it did not.
    read_at: Instant,
    unread: Duration,
}

/// Its connection has ended, for a reason that was looked at.
struct Over;

/// One subscriber, from its first byte to its last.
pub fn visit(address: &Address, seed: u64, number: u64, weather: &Weather, sparks: &Sparks) -> Visit {
    let client = match Client::try_connect(address) {
        Ok(client) => client,
        Err(error) => return Visit::NoService(error),
    };
    let (tally, read_at) = (Tally::default(), Instant::now());
    let mut it = Subscriber { client, number, tally, weather, sparks, account: None, read_at, unread: Duration::ZERO };
    it.tally.clients += 1;
    it.tally.fault("subscriber");
    let _ = it.stays(&mut Chance::new(seed, number));
    Visit::Made(it.tally)
}

impl Subscriber<'_> {
    fn stays(&mut self, chance: &mut Chance) -> Result<(), Over> {
        for _ in 0..chance.within(1..4) {
            self.subscribes(chance)?;
            for _ in 0..chance.within(0..40) {
                match chance.within(0..10) {
                    0 => {
                        self.tally.fault("subscriber that stopped reading");
                        std::thread::sleep(Duration::from_micros(chance.within(0..20_000)));
                    }
                    1 => self.calls(2, 2, Vec::new()).map(drop)?,
                    _ => {
                        for _ in 0..chance.within(1..100) {
                            self.next(None)?;
                        }
                    }
                }
            }
            if chance.one_in(3) {
                self.tally.fault("subscriber that vanished");
                return Ok(());
            }
            let account = self.account.as_ref().map_or(0, |account| account.subscription);
            self.calls(3, 5, map([("subscription", account.into())]))?;
            // Nothing of it comes any more.
            self.account = None;
            self.calls(4, 2, Vec::new())?;
        }
        Ok(())
    }

    fn subscribes(&mut self, chance: &mut Chance) -> Result<(), Over> {
        let overflow = *chance.pick(&["drop_oldest", "drop_newest", "disconnect"]);
        let queue = *chance.pick(&[1_u64, 10, 100, 1000]);
        let wish = map([
            ("program", "fire".into()),
            ("event", "spark".into()),
            ("overflow", overflow.into()),
            ("queue", queue.into()),
        ]);
        let low = self.sparks.count();
        let reply = self.calls(SUBSCRIBE, 4, wish)?;
        let begins = (low, self.sparks.count() + 1);
        let subscription = reply["subscription"].as_u64().unwrap() as u32;
        self.tally.fault("subscription");
        self.account = Some(Account { subscription, begins, due: None });
        Ok(())
    }

    /// Calls a procedure of the directory; events come before its reply as they like.
    fn calls(&mut self, serial: u32, procedure: i32, payload: Vec<u8>) -> Result<Value, Over> {
        if self.client.try_send(&call(DIRECTORY, procedure, serial, &payload)).is_err() {
            // Why is to be read.
            while self.next(Some(serial))?.is_none() {}
        }
        self.tally.calls += 1;
        loop {
            if let Some(reply) = self.next(Some(serial))? {
                self.tally.outcome("ok");
                return Ok(reply.value());
            }
        }
    }

    /// The next packet: an event, or, where one is waited for, this reply.
    fn next(&mut self, serial: Option<u32>) -> Result<Option<Packet>, Over> {
        let now = Instant::now();
        self.unread = self.unread.max(now - std::mem::replace(&mut self.read_at, now));
        let number = self.number;
        let packet = match self.client.try_packet() {
            Ok(Some(packet)) => packet,
            ended => {
                let is_excused = self.weather.is_stopping() || self.unread > WRITE_TIMEOUT / 2;
                assert!(is_excused, "subscriber {number}: the service has cut it: {ended:?}");
                self.tally.outcome("[cut]");
                return Err(Over);
            }
        };
        self.read_at = Instant::now();
        match packet.header {
            Header { packet_type: PacketType::Event, program: FIRE, .. } => {
                match &mut self.account {
                    Some(account) => account.takes(&packet, number),
                    // It came before the reply that says what it is of.
                    None if serial == Some(SUBSCRIBE) => {}
                    None => panic!("subscriber {number}: an event without a subscription: {:?}", packet.header),
                }
                Ok(None)
            }
            Header::ANNOUNCEMENT => {
                let told = packet.error();
                let limit = told.limit().map(|(limit, _)| limit.to_owned());
                let is_allowed = match (told.code().as_str(), limit.as_deref()) {
                    ("shutting_down", _) => self.weather.is_stopping(),
                    ("overloaded", Some("max_clients" | "nofile")) => true,
                    ("overloaded", Some("max_event_queue" | "max_client_event_bytes" | "max_published_events")) => {
                        self.tally.fault("subscriber that wanted no gap");
                        self.account.is_some()
                    }
                    ("packet_timeout", _) => self.unread > PACKET_TIMEOUT / 2,
                    _ => false,
                };
                assert!(is_allowed, "subscriber {number}: closed for no reason of its own: {told:?}");
                self.tally.outcome(&format!("[closed: {}]", told.code()));
                Err(Over)
            }
            header if header.packet_type == PacketType::Reply && Some(header.serial) == serial => Ok(Some(packet)),
            header => panic!("subscriber {number}: {header:?} was not asked for"),
        }
    }
}
