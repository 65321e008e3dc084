//! A service of Postroom inside this program, for what the ready one cannot be: with so many programs, so many workers, or
//! workers that are held until they are released.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, Context, Handler, Message};
use postroom::{Call, Config, Error, Limits, Program, Service};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::Result;
use crate::peer::{Place, Server};
use crate::process::{Role, await_socket, spawn};

/// The number of the first program; others follow.
pub const PROGRAM: u32 = 0x7363_0000;
/// The procedures of each.
pub const POOL: i32 = 1;
pub const INLINE: i32 = 2;
/// Holds its worker until the next `RELEASE`.
pub const HOLD: i32 = 3;
pub const RELEASE: i32 = 4;

/// The most calls of one client that a service can be told to take; they come from several.
const MOST_REQUESTS: usize = 1_000_000;

/// What there are so many of.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Programs,
    Workers,
    /// One worker, and room for so many calls that wait for it.
    Pending,
}

impl Kind {
    const ALL: [(Kind, &str); 3] =
        [(Kind::Programs, "programs"), (Kind::Workers, "workers"), (Kind::Pending, "pending")];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    pub fn by_name(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, other)| *other == name);
        found.map(|(kind, _)| *kind).ok_or_else(|| format!("{name:?} is no kind of service").into())
    }
}

/// The process of such a service.
pub fn launch(place: &Place, kind: Kind, n: usize) -> Result<Server> {
    let socket = place.socket();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("embedded").arg(kind.name()).arg(n.to_string()).arg(&socket);
    let mut process = spawn(command, Role::Server, place)?;
    await_socket(&socket, &mut process)?;
    Ok(Server::new(vec![process], socket.display().to_string()))
}

/// What that process does.
pub fn serve(kind: Kind, n: usize, path: &Path) -> Result<()> {
    let mut limits = Limits::default();
    match kind {
        Kind::Programs => {}
        Kind::Workers => (limits.min_workers, limits.max_workers) = (n, n),
        Kind::Pending => {
            (limits.min_workers, limits.max_workers) = (1, 1);
            // None of these is to be what is met.
            limits.max_client_requests = (n + 2).min(MOST_REQUESTS);
            limits.max_pending_calls = n + 2;
            limits.max_pending_bytes = 1 << 40;
            limits.max_client_output = 1 << 30;
            limits.stuck_after = Duration::from_secs(3600);
        }
    }
    let listen = vec![format!("unix:{}", path.display()).parse()?];
    let mut service = Service::new(Config { listen, demo: false, limits, ..Config::default() });
    let gate = Arc::new(Gate::default());
    let n_programs = if kind == Kind::Programs { n } else { 1 };
    for number in 0..n_programs {
        let gate = gate.clone();
        let program = Program::new(format!("scale{number}"), PROGRAM + number as u32, 1)
            .handler(move || Scaled { gate: gate.clone() })
            .procedure::<Parcel>(POOL, "pool")
            .inline::<Parcel>(INLINE, "inline")
            .procedure::<Hold>(HOLD, "hold")
            .inline::<Release>(RELEASE, "release");
        service = service.program(program);
    }
    service.start()?.wait();
    Ok(())
}

#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

struct Scaled {
    gate: Arc<Gate>,
}

impl Actor for Scaled {
    type Context = Context<Self>;
}

#[derive(Deserialize, Serialize, Message)]
#[rtype(result = "std::result::Result<Parcel, Error>")]
struct Parcel {
    id: u64,
    data: ByteBuf,
}

/// It takes what it gives back, so that it can be called as the others are.
#[derive(Deserialize, Message)]
#[serde(transparent)]
#[rtype(result = "std::result::Result<Parcel, Error>")]
struct Hold(Parcel);

#[derive(Deserialize, Message)]
#[serde(transparent)]
#[rtype(result = "std::result::Result<Parcel, Error>")]
struct Release(Parcel);

impl Handler<Call<Parcel>> for Scaled {
    type Result = std::result::Result<Parcel, Error>;

    fn handle(&mut self, call: Call<Parcel>, _: &mut Self::Context) -> Self::Result {
        Ok(call.args)
    }
}

impl Handler<Call<Hold>> for Scaled {
    type Result = std::result::Result<Parcel, Error>;

    fn handle(&mut self, call: Call<Hold>, _: &mut Self::Context) -> Self::Result {
        let mut is_open = self.gate.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_open {
            is_open = self.gate.opened.wait(is_open).unwrap_or_else(PoisonError::into_inner);
        }
        *is_open = false;
        Ok(call.args.0)
    }
}

impl Handler<Call<Release>> for Scaled {
    type Result = std::result::Result<Parcel, Error>;

    fn handle(&mut self, call: Call<Release>, _: &mut Self::Context) -> Self::Result {
        *self.gate.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.gate.opened.notify_one();
        Ok(call.args.0)
    }
}
