//! Storms over a service in this process: many guests at once, while somebody meddles with its workers and handlers.
//!
//! A campaign is one service and some storms over it. After each storm, when all guests have left, it must be as it
//! was after the first: nothing in progress, no more memory, descriptors or threads in use, every procedure answering.
//! At the end of a campaign the service is stopped, in calm or in the middle of a storm, and nothing of it is left.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use postroom::{Address, Config, Running, Service, Workers};
use postroom_protocol::Status;

use crate::chance::Chance;
use crate::guest::{MAX_PACKET, PACKET_TIMEOUT, Visit, WRITE_TIMEOUT, visit};
use crate::ledger::Weather;
use crate::menu::Menu;
use crate::meter::Meter;
use crate::program::{Args, FIRE, Shared, What, proc, program};
use crate::subscriber::{self, Sparks};
use crate::support::{Client, PATIENCE, call, encode, eventually};
use crate::tally::Tally;
use crate::{settings, witness};

/// How many guests there are at once.
const GUESTS: usize = 8;
/// Nothing hangs for as long as this.
const A_STORM: Duration = Duration::from_secs(30);
/// Workers as they are to be when the service is looked at.
const AT_REST: Workers = Workers {
    min_workers: 2,
    max_workers: 2,
    prio_workers: 1,
    async_workers: 1,
    worker_idle_timeout: Duration::from_millis(20),
};
/// What a service at rest may hold more than after its first storm: buffers that handlers keep, of their biggest reply.
const SLACK_AT_REST: isize = 3 << 20;
/// Descriptors by which threads of the same kind may differ, by what they have used so far.
const THREADS_COST: usize = 4;
/// What there is in these storms beside what guests do everywhere.
const KINDS: [&str; 27] = [
    "factory that panics",
    "handler that ends its thread",
    "handler that hangs",
    "handler that panics in started",
    "handler that stops",
    "internal",
    "out_of_water",
    "overloaded (queue_target)",
    "panic before the future",
    "panic in a future",
    "panic in an inline handler",
    "panic in the drop of a future",
    "panic in the drop of a handler",
    "panic outside of a call",
    "resize",
    "result that does not encode",
    "result that is too large",
    "shutting_down",
    "stop in the middle of a storm",
    "subscriber",
    "subscriber that stopped reading",
    "subscriber that vanished",
    "subscriber that wanted no gap",
    "subscription",
    "tide that does not turn",
    "too_large",
    "worker seen to be stuck",
];
/// What may be left of each service that was stopped.
const SLACK_STOPPED: isize = 1 << 14;

#[test]
fn storm_in_this_process_leaves_no_trace_and_no_call_without_its_answer() {
    let _alone = settings::alone();
    witness::call();
    let seed = settings::seed();
    let time = settings::fire_time() * 2 / 3;
    let campaign = (time / 4).min(Duration::from_secs(12));
    println!("storms in this process: POSTROOM_SEED={seed}, {time:?}");
    let mut tally = Tally::default();
    let start = Instant::now();
    tally.add(Campaign::new(seed, 0).run(campaign / 3, true));
    let baseline = Meter::read();
    let (mut campaigns, mut left) = (1, 0);
    while campaigns == 1 || start.elapsed() < time {
        tally.add(Campaign::new(seed, campaigns).run(campaign / 3, false));
        let slack = campaigns as isize * SLACK_STOPPED;
        left = baseline.is_reached_again("what a service used is free again when it has stopped", slack, 0);
        println!("  service {campaigns}: {left} bytes left of all so far, {} panics", witness::asked_panics());
        campaigns += 1;
    }
    witness::saw_no_other_panic();
    println!("seed {seed}: {campaigns} services, {left} bytes left of them, {} panics", witness::asked_panics());
    println!("{tally}");
    if settings::is_long_fire() {
        tally.has_all(&KINDS);
    }
}

struct Campaign {
    seed: u64,
    number: u64,
    chance: Chance,
    menu: Menu,
    /// `stuck_after` of the service.
    stuck_after: Duration,
    shared: Shared,
    sparks: Sparks,
    weather: Weather,
    tally: Mutex<Tally>,
}

impl Campaign {
    fn new(seed: u64, number: u64) -> Self {
        // The numbers of guests begin at 1 and never come up to these.
        let mut chance = Chance::new(seed, (1 << 63) + number);
        // What is there at times comes by number too, so that some services in a row have had it all.
        let deaths = number % 3 == 1 || chance.one_in(6);
        let menu = Menu::Fire { deaths };
        let queue_target = match number % 3 == 2 || chance.one_in(6) {
            true => Duration::from_millis(*chance.pick(&[1, 2, 5, 20])),
            false => Duration::ZERO,
        };
        let poison_after = [3, 1, 2, 0][(number % 4) as usize];
        let weather =
            Weather { is_in_process: true, may_end_threads: deaths, queue_target, poison_after, ..Weather::default() };
        let stuck_after = match number.is_multiple_of(2) || chance.one_in(4) {
            true => Duration::from_millis(chance.within(50..201)),
            false => A_STORM,
        };
        let (shared, sparks, tally) = (Shared::default(), Sparks::default(), Mutex::default());
        Self { seed, number, chance, menu, stuck_after, shared, sparks, weather, tally }
    }

    fn config(&mut self, folder: &std::path::Path) -> Config {
        let chance = &mut self.chance;
        let weather = &self.weather;
        let listen = vec![Address::Unix(folder.join("socket")), "tcp:127.0.0.1:0".parse().unwrap()];
        let mut config = Config { listen, demo: false, ..Config::default() };
        let limits = &mut config.limits;
        limits.max_packet = MAX_PACKET;
        limits.max_clients = *chance.pick(&[GUESTS / 2, 100, 100, 100]);
        limits.max_client_requests = *chance.pick(&[1, 3, 64, 256]);
        limits.max_client_backlog = *chance.pick(&[1, 16, 256]);
        limits.max_client_backlog_bytes = *chance.pick(&[1024, 100_000, 2 << 20]);
        limits.max_client_output = *chance.pick(&[1024, 50_000, 4 << 20]);
        limits.max_client_event_bytes = *chance.pick(&[1024, 100_000, 4 << 20]);
        limits.max_published_events = *chance.pick(&[1, 100, 16_384]);
        limits.max_pending_calls = *chance.pick(&[5, 300, 10_000]);
        limits.max_pending_bytes = *chance.pick(&[5_000, 256 << 20]);
        limits.max_async_calls = *chance.pick(&[1, 5, 1024]);
        limits.io_arbiters = 1 + chance.below(3);
        limits.first_packet_timeout = PACKET_TIMEOUT;
        limits.packet_timeout = PACKET_TIMEOUT;
        limits.write_timeout = WRITE_TIMEOUT;
        limits.keepalive_interval = Duration::from_millis(*chance.pick(&[0, 100, 5_000]));
        limits.shutdown_timeout = Duration::from_millis(*chance.pick(&[0, 20, 500]));
        if !weather.queue_target.is_zero() {
            // Else no queue stands for long.
            limits.max_client_requests = 256;
            limits.max_pending_calls = 10_000;
            limits.max_pending_bytes = 256 << 20;
        }
        limits.queue_target = weather.queue_target;
        limits.queue_interval = Duration::from_millis(chance.within(20..101));
        limits.poison_after = weather.poison_after;
        limits.stuck_after = self.stuck_after;
        Resize::any(chance, most_workers(weather)).apply(limits);
        config
    }

    fn run(mut self, storm: Duration, is_first: bool) -> Tally {
        let folder = tempfile::tempdir().unwrap();
        let config = self.config(folder.path());
        let limits = config.limits.clone();
        let service = Service::new(config).program(program(&self.shared));
        let running = service.start().unwrap_or_else(|error| panic!("{error}"));
        let next = AtomicU64::new(1 + (self.number << 32));
        let mut at_rest: Option<Meter> = None;
        for round in 0..2 {
            self.storm(&running, storm, &next, round);
            self.calms_down(&running);
            match at_rest {
                None => at_rest = Some(Meter::read()),
                Some(at_rest) => {
                    at_rest.is_reached_again(
                        "the service is as it was after the first storm",
                        SLACK_AT_REST,
                        THREADS_COST,
                    );
                }
            }
        }
        let ends_in_a_storm = is_first || !self.chance.one_in(3);
        let report = if ends_in_a_storm {
            self.tally.lock().unwrap().fault("stop in the middle of a storm");
            self.shared.tide.set_out(false);
            let running = Mutex::new(Some(running));
            let addresses = running.lock().unwrap().as_ref().unwrap().addresses().to_vec();
            let stop_after = storm.mul_f64(self.chance.below(100) as f64 / 100.0);
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                let guests = self.guests(scope, &addresses, &next, &is_over);
                let until = Instant::now() + stop_after;
                let publisher = running.lock().unwrap().as_ref().unwrap().publisher("fire").unwrap();
                let mut sparks = Chance::new(self.seed, (3 << 61) + self.number);
                while Instant::now() < until {
                    thread::sleep(Duration::from_millis(1));
                    self.shared.tide.turn();
                    self.sparks.fly(&publisher, &mut sparks);
                }
                self.weather.is_stopping.store(true, SeqCst);
                let report = running.lock().unwrap().take().unwrap().stop();
                is_over.store(true, SeqCst);
                join(guests);
                report
            })
        } else {
            running.stop()
        };
        assert!(report.abandoned_threads.is_empty(), "limits {limits:?}: {report:?}");
        assert!(ends_in_a_storm || report.is_clean(), "limits {limits:?}: {report:?}");
        self.shared.keys.were_in_order();
        witness::forget_incidents();
        self.tally.into_inner().unwrap()
    }

    /// Guests and meddling, for so long; all guests have settled when it returns.
    fn storm(&mut self, running: &Running, time: Duration, next: &AtomicU64, round: u64) {
        self.shared.tide.set_out(false);
        let is_over = AtomicBool::new(false);
        let mut ebb = Instant::now();
        let mut meddling = Chance::new(self.seed, (1 << 62) + (self.number << 8) + round);
        let addresses = running.addresses().to_vec();
        thread::scope(|scope| {
            let guests = self.guests(scope, &addresses, next, &is_over);
            let until = Instant::now() + time;
            // Until the guests have gone, however long they take: those who hang wait for the tide.
            while Instant::now() < until || guests.iter().any(|guest| !guest.is_finished()) {
                if Instant::now() >= until {
                    is_over.store(true, SeqCst);
                }
                self.meddle(running, &mut meddling, &mut ebb);
            }
            join(guests);
        });
    }

    fn guests<'scope, 'env: 'scope>(
        &'env self,
        scope: &'scope thread::Scope<'scope, 'env>,
        addresses: &'env [Address],
        next: &'env AtomicU64,
        is_over: &'scope AtomicBool,
    ) -> Vec<thread::ScopedJoinHandle<'scope, ()>> {
        let visits = move || {
            while !is_over.load(SeqCst) {
                let number = next.fetch_add(1, SeqCst);
                let address = &addresses[usize::from(number.is_multiple_of(5))];
                let made = match number % 8 {
                    3 => subscriber::visit(address, self.seed, number, &self.weather, &self.sparks),
                    _ => visit(address, self.seed, number, self.menu, &self.weather),
                };
                match made {
                    Visit::Made(tally) => self.tally.lock().unwrap().add(tally),
                    Visit::NoService(_) if self.weather.is_stopping() => return,
                    Visit::NoService(error) => panic!("guest {number} is not let in: {error}"),
                }
            }
        };
        let spawn = |_| thread::Builder::new().name("guest".to_owned()).spawn_scoped(scope, visits).unwrap();
        (0..GUESTS).map(spawn).collect()
    }

    /// One turn of what happens to the service apart from its guests. Until `ebb` the tide does not turn.
    fn meddle(&self, running: &Running, chance: &mut Chance, ebb: &mut Instant) {
        thread::sleep(Duration::from_micros(chance.within(100..6_000)));
        let mut tally = Tally::default();
        self.sparks.fly(&running.publisher("fire").unwrap(), chance);
        match chance.within(0..12) {
            // What hangs is stuck then, and others have to take its place.
            0 if self.stuck_after < A_STORM && *ebb < Instant::now() && chance.one_in(4) => {
                *ebb = Instant::now() + Duration::from_millis(chance.within(50..400));
                tally.fault("tide that does not turn");
            }
            0..5 => {
                if *ebb < Instant::now() {
                    self.shared.tide.turn();
                }
            }
            5..7 => {
                let Resize(workers) = Resize::any(chance, most_workers(&self.weather));
                running.resize(workers).unwrap();
                tally.fault("resize");
            }
            7 => {
                self.shared.bad_factories.store(chance.within(0..4), SeqCst);
                tally.fault("factory that panics");
            }
            8 => {
                self.shared.bad_starts.store(chance.within(0..4), SeqCst);
                tally.fault("handler that panics in started");
            }
            9 => {
                let stats = running.stats();
                for procedure in &stats.procedures {
                    let answered: u64 = procedure.outcomes.values().sum();
                    assert_eq!(procedure.accepted, answered + procedure.in_progress, "{procedure:?}");
                    assert!(procedure.in_progress < 100_000, "{procedure:?}");
                }
                tally.faults("worker seen to be stuck", stats.workers.abandoned);
            }
            _ => drop(running.health()),
        }
        self.tally.lock().unwrap().add(tally);
    }

    /// All guests have gone: nothing goes on any more, and everything is answered again.
    fn calms_down(&self, running: &Running) {
        self.shared.tide.set_out(true);
        self.shared.bad_factories.store(0, SeqCst);
        self.shared.bad_starts.store(0, SeqCst);
        running.resize(AT_REST).unwrap();
        let mut stats = running.stats();
        let waited = catch_unwind(AssertUnwindSafe(|| {
            eventually("nothing is in progress", || {
                stats = running.stats();
                stats.procedures.iter().all(|procedure| procedure.in_progress == 0)
                    && (stats.clients.connected, stats.clients.busy, stats.clients.gone) == (0, 0, 0)
                    && (stats.pending.calls, stats.pending.bytes) == (0, 0)
                    && stats.events.iter().all(|event| event.subscriptions == 0)
                    && (stats.workers.current, stats.workers.free, stats.workers.priority) == (2, 2, 1)
                    && (stats.workers.asynchronous, stats.workers.abandoned) == (1, 0)
            });
        }));
        if let Err(panic) = waited {
            let busy: Vec<_> = stats.procedures.iter().filter(|procedure| procedure.in_progress > 0).collect();
            eprintln!("{:?}\n{:?}\n{:?}\n{busy:#?}", stats.clients, stats.workers, stats.pending);
            eprintln!("{:?}, wanted {:?}", self.menu, running.workers());
            resume_unwind(panic);
        }
        let mut client = Client::connect(&running.addresses()[0]);
        let args = Args { id: 1, what: What::Answer as u8, us: 0, bytes: 1, order: None };
        for procedure in proc::BLOCKING..=proc::BAD_START_INLINE {
            // One that failed to start too often is left alone for a while.
            let mut answer = None;
            let mut tries = 0;
            let answers = || {
                client.send(&call(FIRE, procedure, 7, &encode(&args)));
                let packet = client.packet();
                answer = (packet.header.status == Status::Error).then(|| packet.error());
                tries += 1;
                answer.is_none()
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| eventually("each procedure answers", answers))) {
                let logged = answer.as_ref().and_then(|answer| witness::incident(answer.incident()?));
                eprintln!("procedure {procedure}, asked {tries} times: {answer:?}\n{logged:?}\n{}", running.health());
                resume_unwind(panic);
            }
        }
        drop(client);
        eventually_healthy(running);
        eventually("the client has left", || running.stats().clients.connected == 0);
        self.shared.keys.were_in_order();
        witness::forget_incidents();
        witness::saw_no_other_panic();
    }
}

/// Instances that were there before the last failures may answer all calls, so that no fresh one shows that it can be
/// started; then the failures are forgotten within two of the longest back-offs.
#[track_caller]
fn eventually_healthy(running: &Running) {
    let until = Instant::now() + 2 * Duration::from_secs(10) + PATIENCE;
    while !running.health().is_healthy() {
        assert!(Instant::now() < until, "{}", running.health());
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the guests, and fails as the first of them did.
fn join(guests: Vec<thread::ScopedJoinHandle<'_, ()>>) {
    for guest in guests {
        if let Err(panic) = guest.join() {
            resume_unwind(panic);
        }
    }
}

/// A number of workers that may be.
struct Resize(Workers);

/// Few, where more calls are to wait than are done.
fn most_workers(weather: &Weather) -> usize {
    if weather.queue_target.is_zero() { 8 } else { 2 }
}

impl Resize {
    fn any(chance: &mut Chance, most: usize) -> Self {
        let min_workers = 1 + chance.below(most / 2);
        Self(Workers {
            min_workers,
            max_workers: min_workers + chance.below(most / 2 + 1),
            prio_workers: chance.below(3),
            async_workers: 1 + chance.below(3),
            worker_idle_timeout: Duration::from_millis(*chance.pick(&[1, 10, 1000])),
        })
    }

    fn apply(self, limits: &mut postroom::Limits) {
        limits.min_workers = self.0.min_workers;
        limits.max_workers = self.0.max_workers;
        limits.prio_workers = self.0.prio_workers;
        limits.async_workers = self.0.async_workers;
        limits.worker_idle_timeout = self.0.worker_idle_timeout;
    }
}
