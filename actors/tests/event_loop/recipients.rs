//! Messages to actors: one on its way, and the watch is armed again when that has been dealt with.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, Context, Handler, Message};
use postroom_actors::event_loop::{Delivery, Driver, EventLoop, Events, HandleEvent, Interval, LoopError, TimerEvent};

use crate::support::{Journal, Pipe, keep_log};

/// Keeps what it is told, and lets go of it when asked.
pub(crate) struct Keeper {
    told: Journal<String>,
    handles: Vec<Delivery<HandleEvent>>,
    timers: Vec<Delivery<TimerEvent>>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Delivery<HandleEvent>> for Keeper {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<HandleEvent>, _: &mut Context<Self>) {
        self.told.push(format!("{} {:?}", delivery.id, delivery.events));
        self.handles.push(delivery);
    }
}

impl Handler<Delivery<TimerEvent>> for Keeper {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<TimerEvent>, _: &mut Context<Self>) {
        self.told.push(delivery.id.to_string());
        self.timers.push(delivery);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LetGo;

impl Handler<LetGo> for Keeper {
    type Result = ();

    fn handle(&mut self, _: LetGo, _: &mut Context<Self>) {
        self.handles.clear();
        self.timers.clear();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Leave;

impl Handler<Leave> for Keeper {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Context<Self>) {
        context.stop();
    }
}

pub(crate) fn keeper(told: &Journal<String>) -> actix::Addr<Keeper> {
    Keeper { told: told.clone(), handles: Vec::new(), timers: Vec::new() }.start()
}

/// Lets the actors of this arbiter take what is in their mailboxes.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn turn(driver: &mut Driver) {
    driver.iterate(Some(Duration::ZERO)).unwrap();
    settle().await;
}

#[test]
fn a_handle_has_one_message_on_its_way_and_is_armed_again_when_that_is_dropped() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        let actor = keeper(&told);
        let pipe = Pipe::full();
        let watch = events.add_handle_recipient(pipe.fd(), Events::READABLE, actor.clone().recipient()).unwrap();
        for _ in 0..5 {
            turn(&mut driver).await;
        }
        assert_eq!(told.take(), [format!("{watch} READABLE")]);
        // It does not spin on what nobody reads yet.
        let start = Instant::now();
        assert_eq!(driver.iterate(Some(Duration::from_millis(50))).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(45), "it woke up for a watch that is not armed");

        actor.send(LetGo).await.unwrap();
        turn(&mut driver).await;
        assert_eq!(told.take().len(), 1, "what is still ready is reported again");
        pipe.get();
        actor.send(LetGo).await.unwrap();
        turn(&mut driver).await;
        assert_eq!(told.len(), 0);
        pipe.put();
        turn(&mut driver).await;
        assert_eq!(told.take().len(), 1);
    });
}

#[test]
fn a_timer_has_one_message_on_its_way_and_is_late_rather_than_often() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        let actor = keeper(&told);
        let timer = events.add_timeout_recipient(Interval::EveryIteration, actor.clone().recipient()).unwrap();
        for _ in 0..5 {
            turn(&mut driver).await;
        }
        assert_eq!(told.take(), [timer.to_string()]);
        for _ in 0..2 {
            actor.send(LetGo).await.unwrap();
            turn(&mut driver).await;
            assert_eq!(told.take(), [timer.to_string()]);
        }
        // An update counts anew, and still there is one message on its way at most.
        events.update_timeout(timer, Interval::EveryIteration).unwrap();
        turn(&mut driver).await;
        assert_eq!(told.len(), 0);
    });
}

#[test]
fn a_closed_descriptor_is_told_to_an_actor_when_it_can_take_a_message() {
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        let actor = keeper(&told);
        let pipe = Pipe::full();
        let fd = rustix::io::fcntl_dupfd_cloexec(&pipe.reader, 5201).unwrap();
        let watch = events.add_handle_recipient(fd.as_raw_fd(), Events::READABLE, actor.clone().recipient()).unwrap();
        turn(&mut driver).await;
        assert_eq!(told.take(), [format!("{watch} READABLE")]);
        drop((fd, pipe));
        assert!(matches!(events.update_handle(watch, Events::WRITABLE), Err(LoopError::NotOpen(_))));
        turn(&mut driver).await;
        assert_eq!(told.len(), 0);
        actor.send(LetGo).await.unwrap();
        turn(&mut driver).await;
        assert_eq!(told.take(), [format!("{watch} ERROR")]);
    });
}

#[test]
fn the_watch_of_an_actor_that_stopped_is_removed() {
    keep_log();
    actix_rt::System::new().block_on(async {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        let actor = keeper(&told);
        let pipe = Pipe::full();
        let watch = events.add_handle_recipient(pipe.fd(), Events::READABLE, actor.clone().recipient()).unwrap();
        let timer = events.add_timeout_recipient(Interval::EveryIteration, actor.clone().recipient()).unwrap();
        actor.send(Leave).await.unwrap();
        settle().await;
        turn(&mut driver).await;
        assert!(matches!(events.remove_handle(watch), Err(LoopError::UnknownHandle(_))));
        assert!(matches!(events.remove_timeout(timer), Err(LoopError::UnknownTimer(_))));
    });
}
