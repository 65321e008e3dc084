//! Storms over the binary as a process: descriptors run out, signals stop it, go on with it, and end it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::chance::Chance;
use crate::guest::{MAX_PACKET, Visit, visit};
use crate::ledger::Weather;
use crate::line::Line;
use crate::menu::Menu;
use crate::settings;
use crate::support::{Binary, Client, ECHO, echo, eventually, parcel};
use crate::tally::Tally;

const GUESTS: usize = 6;
const POISON_AFTER: u32 = 2;
/// What there is in these storms beside what guests do everywhere.
const KINDS: [&str; 6] = [
    "crowd that takes all descriptors",
    "SIGKILL",
    "SIGSTOP, SIGCONT",
    "signal in the middle of a storm",
    "tea",
    "two signals",
];
/// What the process may hold more than after its first storm; its allocator keeps memory for reasons of its own.
const SLACK_KIB: u64 = 16 * 1024;

#[test]
fn storm_over_a_process_that_runs_out_of_descriptors_and_gets_signals() {
    let _alone = settings::alone();
    let seed = settings::seed();
    let time = settings::fire_time() / 3;
    let campaign = (time / 4).min(Duration::from_secs(10));
    println!("storms over a process: POSTROOM_SEED={seed}, {time:?}");
    let (mut tally, mut processes) = (Tally::default(), 0);
    let start = Instant::now();
    while start.elapsed() < time {
        tally.add(Campaign::new(seed, processes).run(campaign / 3));
        processes += 1;
    }
    println!("seed {seed}: {processes} processes");
    println!("{tally}");
    if settings::is_long_fire() {
        tally.has_all(&KINDS);
    }
}

struct Campaign {
    seed: u64,
    number: u64,
    chance: Chance,
    weather: Weather,
    tally: Mutex<Tally>,
}

impl Campaign {
    fn new(seed: u64, number: u64) -> Self {
        let chance = Chance::new(seed, (3 << 62) + number);
        let weather = Weather { poison_after: POISON_AFTER, ..Weather::default() };
        Self { seed, number, chance, weather, tally: Mutex::default() }
    }

    fn run(mut self, storm: Duration) -> Tally {
        let descriptors = *self.chance.pick(&[56, 64, 128]);
        let config = format!(
            "max_packet = {MAX_PACKET}\nio_arbiters = {}\nmin_workers = 2\nmax_workers = 6\nprio_workers = 1\n\
             worker_idle_timeout = \"20ms\"\nfirst_packet_timeout = \"800ms\"\npacket_timeout = \"800ms\"\n\
             write_timeout = \"500ms\"\npoison_after = {POISON_AFTER}\nmax_client_requests = {}\nmax_pending_calls = {}\nshutdown_timeout = \"300ms\"\n",
            1 + self.chance.below(2),
            self.chance.pick(&[1, 20, 256]),
            self.chance.pick(&[5, 10_000]),
        );
        let mut service = Binary::serve_with_descriptors(descriptors, &config);
        let next = AtomicU64::new((1 << 61) + (self.number << 32));
        let mut at_rest = None;
        for round in 0..2 {
            self.storm(&service, storm, &next, round);
            let now = rests(&service);
            let (threads, open, resident) = at_rest.get_or_insert(now.clone());
            let (threads, resident) = (*threads, *resident);
            // The last clients and threads may be about to go: their descriptors close when they have.
            let waited = std::panic::AssertUnwindSafe(|| {
                eventually("threads and descriptors are as they were", || {
                    let usage = service.usage();
                    usage.threads() <= threads && usage.descriptors() <= open.len()
                });
            });
            if let Err(panic) = std::panic::catch_unwind(waited) {
                eprintln!(
                    "{threads} threads, {open:#?}\nnow {}, {:#?}",
                    service.usage().threads(),
                    service.usage().opened()
                );
                std::panic::resume_unwind(panic);
            }
            assert!(now.2 <= resident + SLACK_KIB, "{} KiB after {resident}", now.2);
        }
        self.ends(&mut service, storm, &next);
        // `echo.panic` panics as it is asked to; nothing else does.
        let log = service.log();
        let is_unasked =
            |line: &&str| line.contains("panicked") && !line.contains("as asked") && !line.contains("echo.rs");
        assert_eq!(log.lines().find(is_unasked), None);
        self.tally.into_inner().unwrap()
    }

    fn storm(&self, service: &Binary, time: Duration, next: &AtomicU64, round: u64) {
        let mut chance = Chance::new(self.seed, (5 << 60) + (self.number << 8) + round);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let guests = self.guests(scope, service, next, &is_over);
            let until = Instant::now() + time;
            while Instant::now() < until {
                thread::sleep(Duration::from_millis(chance.within(1..20)));
                match chance.within(0..6) {
                    0 => {
                        self.fault("SIGSTOP, SIGCONT");
                        service.signal(Signal::STOP);
                        thread::sleep(Duration::from_millis(chance.within(0..60)));
                        service.signal(Signal::CONT);
                    }
                    1 => self.crowds(service, &mut chance),
                    _ => {}
                }
            }
            is_over.store(true, SeqCst);
            join(guests);
        });
    }

    /// More clients than there are descriptors, for a moment.
    fn crowds(&self, service: &Binary, chance: &mut Chance) {
        self.fault("crowd that takes all descriptors");
        let crowd: Vec<_> = (0..150).filter_map(|_| Line::connect(service.address()).ok()).collect();
        thread::sleep(Duration::from_millis(chance.within(0..30)));
        drop(crowd);
    }

    fn fault(&self, what: &'static str) {
        self.tally.lock().unwrap().fault(what);
    }

    fn guests<'scope, 'env: 'scope>(
        &'env self,
        scope: &'scope thread::Scope<'scope, 'env>,
        service: &Binary,
        next: &'env AtomicU64,
        is_over: &'env AtomicBool,
    ) -> Vec<thread::ScopedJoinHandle<'scope, ()>> {
        let address = service.address().clone();
        let visits = move || {
            while !is_over.load(SeqCst) {
                let number = next.fetch_add(1, SeqCst);
                match visit(&address, self.seed, number, Menu::Echo, &self.weather) {
                    Visit::Made(tally) => self.tally.lock().unwrap().add(tally),
                    Visit::NoService(_) if self.weather.is_stopping() => return,
                    Visit::NoService(error) => panic!("guest {number} is not let in: {error}"),
                }
            }
        };
        (0..GUESTS).map(|_| scope.spawn(visits.clone())).collect()
    }

    /// A signal, or two, or another, in the middle of a storm.
    fn ends(&mut self, service: &mut Binary, storm: Duration, next: &AtomicU64) {
        let is_over = AtomicBool::new(false);
        let after = storm.mul_f64(self.chance.below(100) as f64 / 100.0);
        let first = *self.chance.pick(&[Signal::TERM, Signal::INT]);
        // By number, so that some processes in a row have had each.
        let ending = self.number % 3;
        let between = Duration::from_millis(self.chance.within(0..50));
        let this = &*self;
        thread::scope(|scope| {
            let guests = this.guests(scope, service, next, &is_over);
            thread::sleep(after);
            this.weather.is_stopping.store(true, SeqCst);
            let expected: &[Option<i32>] = match ending {
                1 => {
                    this.fault("SIGKILL");
                    this.weather.is_killed.store(true, SeqCst);
                    service.signal(Signal::KILL);
                    &[None]
                }
                2 => {
                    this.fault("two signals");
                    this.weather.is_killed.store(true, SeqCst);
                    service.signal(first);
                    thread::sleep(between);
                    service.try_signal(Signal::TERM);
                    // The first may have been enough.
                    &[Some(0), Some(3), Some(130)]
                }
                _ => {
                    this.fault("signal in the middle of a storm");
                    service.signal(first);
                    &[Some(0), Some(3)]
                }
            };
            let code = service.exit_code();
            assert!(expected.contains(&code), "ended with {code:?}:\n{}", service.log());
            is_over.store(true, SeqCst);
            join(guests);
        });
    }
}

/// Waits until all guests have gone and everything answers; returns threads, descriptors, and resident memory in KiB.
fn rests(service: &Binary) -> (usize, Vec<String>, u64) {
    eventually("a newcomer is served", || {
        let Ok(mut client) = Client::try_connect(service.address()) else { return false };
        let bytes = crate::support::call(ECHO, echo::ECHO, 1, &parcel(1, b"x"));
        client.try_send(&bytes).is_ok() && matches!(client.try_packet(), Ok(Some(packet)) if packet.header.serial == 1)
    });
    let mut client = service.client();
    let mut found = (0, Vec::new(), 0);
    let mut stats = rmpv::Value::Nil;
    let waited = std::panic::AssertUnwindSafe(|| {
        eventually("it is at rest", || {
            stats = client.call(crate::support::DIRECTORY, 3, &[]);
            let usage = service.usage();
            found = (usage.threads(), usage.opened(), usage.resident_kib());
            let procedures = stats["procedures"].as_array().unwrap();
            let in_progress: u64 = procedures.iter().map(|procedure| procedure["in_progress"].as_u64().unwrap()).sum();
            let number = |section: &str, key: &str| stats[section][key].as_u64().unwrap();
            // The call that asks is in progress.
            (in_progress, number("clients", "connected"), number("clients", "gone"), number("pending", "calls"))
                == (1, 1, 0, 0)
                && (number("workers", "current"), number("workers", "free"), number("workers", "priority")) == (2, 2, 1)
                && number("workers", "asynchronous") == 1
                && stats["health"]["state"].as_str() == Some("healthy")
        })
    });
    if let Err(panic) = std::panic::catch_unwind(waited) {
        eprintln!("{}, {}, {}, {}", stats["clients"], stats["workers"], stats["pending"], stats["health"]);
        std::panic::resume_unwind(panic);
    }
    found
}

/// Waits for the guests, and fails as the first of them did.
fn join(guests: Vec<thread::ScopedJoinHandle<'_, ()>>) {
    for guest in guests {
        if let Err(panic) = guest.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
