//! The loop on an arbiter: it takes turns with the other tasks, is as exact as on a thread, and can be cancelled.

use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use postroom_actors::event_loop::{Driver, EventLoop, Events, Interval, LoopError};

use crate::recipients::{LetGo, keeper, settle};
use crate::support::{Journal, LIMIT, NOW, Pipe, hold};

#[test]
fn on_an_arbiter_the_loop_and_the_actors_take_turns() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        let driving = actix_rt::spawn(async move { driver.drive().await });
        let actor = keeper(&told);
        let pipe = Pipe::new();
        // A busy loop leaves the actors their turns.
        let zero = events.add_timeout(Interval::EveryIteration, |_| ()).unwrap();
        let watch = events.add_handle_recipient(pipe.fd(), Events::READABLE, actor.clone().recipient()).unwrap();
        pipe.put();
        until(|| told.len() == 1).await;
        events.remove_timeout(zero).unwrap();
        actor.send(LetGo).await.unwrap();
        until(|| told.len() == 2).await;
        pipe.get();
        actor.send(LetGo).await.unwrap();

        // Asleep, it wakes for timers exactly, and for other threads.
        let fired = Journal::new();
        let journal = fired.clone();
        let start = Instant::now();
        let timer = events
            .add_timeout(Interval::Every(Duration::from_millis(20)), move |_| journal.push(Instant::now()))
            .unwrap();
        until(|| fired.len() == 5).await;
        for (n, time) in (1..).zip(fired.take()) {
            assert!(time - start >= Duration::from_millis(20) * n);
        }
        events.remove_timeout(timer).unwrap();
        settle().await;
        let (loop_, journal) = (events.clone(), told.clone());
        let removed = std::thread::spawn(move || loop_.remove_handle(watch).map(|()| journal.push("removed".into())));
        until(|| told.len() > 2).await;
        removed.join().unwrap().unwrap();

        events.stop();
        tokio::time::timeout(LIMIT, driving).await.unwrap().unwrap().unwrap();
        assert!(matches!(events.add_timeout(Interval::Disabled, |_| ()), Err(LoopError::Ended)));
    });
}

#[test]
fn on_an_arbiter_the_loop_survives_a_new_epoll_set() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let driving = actix_rt::spawn(async move { driver.drive().await });
        let told = Journal::new();
        let pipe = Pipe::new();
        let fd = rustix::io::fcntl_dupfd_cloexec(&pipe.reader, 5202).unwrap();
        let watch = events.add_handle(fd.as_raw_fd(), Events::READABLE, |_| ()).unwrap();
        settle().await;
        drop(fd);
        events.remove_handle(watch).unwrap();
        pipe.put(); // Reported for a number that is gone, until the set is renewed.
        settle().await;
        let other = Pipe::new();
        let loop_ = events.clone();
        let journal = told.clone();
        events
            .add_handle(other.fd(), Events::READABLE, move |event| {
                journal.push("told".to_owned());
                loop_.remove_handle(event.id).unwrap();
            })
            .unwrap();
        settle().await;
        other.put();
        until(|| told.len() == 1).await;
        events.stop();
        tokio::time::timeout(LIMIT, driving).await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn on_another_arbiter_callbacks_run_and_are_dropped_on_its_thread() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let arbiter = actix_rt::Arbiter::new();
        let told = Journal::new();
        let thread = |what: &'static str| (what, std::thread::current().id());
        let journal = told.clone();
        arbiter.spawn_fn(move || journal.push(thread("arbiter")));
        let journal = told.clone();
        arbiter.spawn(async move {
            driver.drive().await.unwrap();
            drop(driver);
            journal.push(thread("ended"));
        });
        let (journal, stop) = (told.clone(), events.clone());
        let guard = OnDrop(told.clone());
        events
            .add_timeout(Interval::Every(Duration::from_millis(1)), move |_| {
                let _ = &guard;
                journal.push(thread("called"));
                stop.stop();
            })
            .unwrap();
        until(|| told.len() == 4).await;
        let told = told.take();
        assert_eq!(told.iter().map(|(what, _)| *what).collect::<Vec<_>>(), ["arbiter", "called", "dropped", "ended"]);
        assert!(told.iter().all(|(_, on)| *on == told[0].1), "{told:?}");
        assert!(matches!(events.add_timeout(Interval::Disabled, |_| ()), Err(LoopError::Ended)));
        arbiter.stop();
        arbiter.join().unwrap();
    });
}

struct OnDrop(Journal<(&'static str, std::thread::ThreadId)>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.push(("dropped", std::thread::current().id()));
    }
}

#[test]
fn an_iteration_with_much_to_do_is_cut_into_turns() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        for n in 0..1000 {
            events.add_timeout(Interval::EveryIteration, told.on_timer(n)).unwrap();
        }
        let mut most = 0;
        {
            let mut driving = pin!(driver.drive());
            while told.len() < 1000 {
                let before = told.len();
                poll_once(driving.as_mut());
                most = most.max(told.len() - before);
            }
        }
        assert!((1..=64).contains(&most), "{most} callbacks in one turn");
        // Nothing was skipped or called twice, although other turns lay between.
        assert_eq!(told.take()[..1000], (0..1000).collect::<Vec<_>>());
    });
}

#[test]
fn a_turn_is_over_after_half_a_millisecond() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        for _ in 0..10 {
            let journal = told.clone();
            let busy = move |_| {
                let end = Instant::now() + Duration::from_millis(1);
                while Instant::now() < end {}
                journal.push(());
            };
            events.add_timeout(Interval::EveryIteration, busy).unwrap();
        }
        let mut driving = pin!(driver.drive());
        poll_once(driving.as_mut());
        assert_eq!(told.len(), 1);
    });
}

#[test]
fn a_cancelled_drive_loses_nothing() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        for n in 0..200 {
            events.add_timeout(Interval::EveryIteration, told.on_timer(n)).unwrap();
        }
        let guard = told.at_drop(1000);
        let removed = events.add_timeout(Interval::Disabled, move |_| hold(&guard)).unwrap();
        events.remove_timeout(removed).unwrap();
        // Each is dropped after its first turn, in the middle of an iteration.
        for _ in 0..2 {
            let before = told.len();
            poll_once(pin!(driver.drive()));
            // Fewer than there may be in a turn, where those took long.
            assert!((1..=64).contains(&(told.len() - before)), "{} after {before}", told.len());
        }
        // Another way of running it goes on where that was.
        let rest = 200 - told.len();
        assert_eq!(driver.iterate(NOW).unwrap(), rest);
        assert_eq!(told.take(), (0..200).chain([1000]).collect::<Vec<_>>());

        // Asleep, too: what wakes it is not lost.
        let (events, mut driver) = EventLoop::new().unwrap();
        let pipe = Pipe::new();
        events.add_handle(pipe.fd(), Events::READABLE, told.on_handle(1)).unwrap();
        for _ in 0..3 {
            poll_once(pin!(driver.drive()));
        }
        pipe.put();
        settle().await;
        let end = Instant::now() + LIMIT;
        while told.len() == 0 {
            assert!(Instant::now() < end);
            let _ = tokio::time::timeout(Duration::from_millis(1), driver.drive()).await;
        }
    });
}

fn poll_once(driving: std::pin::Pin<&mut impl Future<Output = std::io::Result<()>>>) {
    assert!(matches!(driving.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
}

/// The runtime's own timers are rounded to milliseconds, so nearly all would be later than this. Only the best of many
/// rounds counts, and of many timers in it, on a machine that is busy with other tests.
#[test]
fn timers_are_not_rounded_to_milliseconds() {
    const LIMIT_OF_LATENESS: Duration = Duration::from_micros(500);
    let period = Duration::from_micros(300);
    let best = |run: &dyn Fn(Driver)| {
        let (events, driver) = EventLoop::new().unwrap();
        let late = Journal::new();
        let (journal, stop, mut due) = (late.clone(), events.clone(), Instant::now() + period);
        let tick = move |_| {
            let now = Instant::now();
            // The loop counts from the dispatch, which is a little before the callback looked at the clock.
            journal.push(now.saturating_duration_since(due));
            due = Instant::now() + period;
            if journal.len() == 300 {
                stop.stop();
            }
        };
        events.add_timeout(Interval::Every(period), tick).unwrap();
        run(driver);
        let mut late = late.take();
        late.sort_unstable();
        late[late.len() / 50]
    };
    let on_thread = || best(&|mut driver| driver.run().unwrap());
    let on_arbiter = || best(&|mut driver| actix_rt::System::new().block_on(async { driver.drive().await.unwrap() }));
    let is_exact = |round: &dyn Fn() -> Duration| {
        let late: Vec<Duration> = (0..50).map(|_| round()).take_while(|late| *late >= LIMIT_OF_LATENESS).collect();
        assert!(late.len() < 50, "late by {late:?}");
    };
    is_exact(&on_thread);
    is_exact(&on_arbiter);
}

#[test]
fn without_a_reactor_driving_is_an_error_or_a_panic_of_the_runtime_and_the_loop_is_unharmed() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    events.add_timeout(Interval::EveryIteration, told.on_timer(())).unwrap();
    let driven = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        matches!(pin!(driver.drive()).as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }));
    assert!(driven.unwrap_or(true));
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
}

async fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "waited in vain");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
