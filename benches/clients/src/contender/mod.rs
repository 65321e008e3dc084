//! What is compared: of each the server, and the load of a client.

mod bare;
mod postroom;
mod tarpc;

use std::path::Path;

use tokio::runtime::{Builder, Runtime};

use crate::load::Load;
use crate::{Result, Shape};
use tarpc::Handlers;

/// One side of the comparison, by what its server does.
#[derive(Clone, Copy, PartialEq)]
pub enum Contender {
    /// A service as it is by default, and which of its procedures is called.
    Postroom(&'static str),
    Tarpc(Handlers, Threads),
    /// What the socket, the kernel and tokio allow.
    Bare,
}

/// The threads of a server on a tokio runtime.
#[derive(Clone, Copy, PartialEq)]
pub enum Threads {
    One,
    /// As many as there are cores.
    All,
}

impl Contender {
    pub const ALL: [Contender; 9] = [
        Contender::Postroom("echo.quick"),
        Contender::Postroom("echo.echo"),
        Contender::Tarpc(Handlers::Spawned, Threads::One),
        Contender::Tarpc(Handlers::Spawned, Threads::All),
        Contender::Tarpc(Handlers::Inline, Threads::One),
        Contender::Tarpc(Handlers::Inline, Threads::All),
        Contender::Tarpc(Handlers::InTurn, Threads::One),
        Contender::Tarpc(Handlers::InTurn, Threads::All),
        Contender::Bare,
    ];

    pub fn by_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|contender| contender.name() == name);
        found.ok_or_else(|| format!("{name:?}: no contender has this name").into())
    }

    pub fn name(self) -> String {
        match self {
            Self::Postroom(procedure) => format!("postroom, {procedure}"),
            Self::Tarpc(handlers, threads) => {
                let handlers = match handlers {
                    Handlers::Spawned => "spawned",
                    Handlers::Inline => "inline",
                    Handlers::InTurn => "inline in turn",
                };
                let threads = match threads {
                    Threads::One => "one thread",
                    Threads::All => "all cores",
                };
                format!("tarpc, {handlers}, {threads}")
            }
            Self::Bare => "bare echo".to_owned(),
        }
    }

    pub fn is_tarpc(self) -> bool {
        matches!(self, Self::Tarpc(..))
    }

    /// Serves until the process ends.
    pub fn serve(self, path: &Path) -> Result<()> {
        match self {
            Self::Postroom(_) => postroom::serve(path),
            Self::Tarpc(handlers, threads) => threads.runtime()?.block_on(tarpc::serve(path, handlers)),
            Self::Bare => Threads::One.runtime()?.block_on(bare::serve(path)),
        }
    }

    /// Connects, and starts the calls.
    pub async fn call(self, path: &Path, shape: Shape, load: &mut Load) -> Result<()> {
        for _ in 0..shape.connections {
            match self {
                Self::Postroom(procedure) => load.add(postroom::connect(path, procedure).await?, shape.depth),
                Self::Tarpc(..) => load.add(tarpc::connect(path).await?, shape.depth),
                Self::Bare => bare::connect(path, shape.depth, load).await?,
            }
        }
        Ok(())
    }
}

impl Threads {
    /// A runtime with so many.
    pub fn runtime(self) -> Result<Runtime> {
        let mut builder = match self {
            Self::One => Builder::new_current_thread(),
            Self::All => Builder::new_multi_thread(),
        };
        Ok(builder.enable_all().build()?)
    }
}
