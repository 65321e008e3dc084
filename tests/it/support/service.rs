//! A service in the process of the test, on a Unix socket in a folder of its own.

use std::ops::Deref;

use postroom::{Address, Config, Program, Report, Running, Service};
use tempfile::TempDir;

use super::program::{Shared, programs};
use super::{Client, Gate};

/// A service with the programs `test` (two versions) and `echo`. Stopped when it is dropped; all gates open first.
pub struct TestService {
    shared: Shared,
    running: Option<Running>,
    folder: TempDir,
}

impl TestService {
    /// With the defaults, but two workers on any machine, none more and none for priority calls only.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// With what `configure` changes. It may add addresses; the Unix socket comes first. Unless it says how many
    /// workers there may be, there are no more than it wants at least.
    pub fn with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::with_programs(|_| Vec::new(), configure)
    }

    /// The same with further programs, whose handlers share with the test what the others do.
    pub fn with_programs(further: impl FnOnce(&Shared) -> Vec<Program>, configure: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { listen: vec![Address::Unix(folder.path().join("socket"))], ..Config::default() };
        config.limits.min_workers = 2;
        config.limits.io_arbiters = 2;
        config.limits.io_arbiters = 2;
        config.limits.prio_workers = 0;
        // Tests that panic their handlers do so again and again with the same call.
        config.limits.poison_after = 0;
        let default = config.limits.max_workers;
        configure(&mut config);
        if config.limits.max_workers == default {
            config.limits.max_workers = config.limits.min_workers;
        }
        let shared = Shared::default();
        let service =
            programs(&shared).into_iter().chain(further(&shared)).fold(Service::new(config), Service::program);
        let running = service.start().unwrap_or_else(|error| panic!("{error}"));
        Self { shared, running: Some(running), folder }
    }

    /// The same, listening at a TCP port of the loopback too.
    pub fn with_tcp(configure: impl FnOnce(&mut Config)) -> Self {
        Self::with(|config| {
            config.listen.push("tcp:127.0.0.1:0".parse().unwrap());
            configure(config);
        })
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// The address with this index.
    pub fn address(&self, index: usize) -> &Address {
        &self.running().addresses()[index]
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A new client at the Unix socket.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address(0))
    }

    /// A new client at the TCP port, of a service made by [`Self::with_tcp`].
    #[track_caller]
    pub fn tcp_client(&self) -> Client {
        Client::connect(self.address(1))
    }

    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Stops the service as a user would, gates as they are.
    pub fn stop(mut self) -> Report {
        self.running.take().unwrap().stop()
    }
}

impl Deref for TestService {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for TestService {
    fn drop(&mut self) {
        self.shared.gate.open_all();
        drop(self.running.take());
    }
}
