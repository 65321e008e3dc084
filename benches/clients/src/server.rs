//! The process of a server: its start and its end, as the client sees them and as it does itself.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::contender::Contender;

const READY: &str = "ready";

/// This program as a server. Dropping it stops it and removes its socket.
pub struct Server {
    child: Child,
    path: PathBuf,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub fn start(contender: Contender, path: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("server").arg(contender.name()).arg(path);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut server = Self { child, path: path.to_owned() };
        let mut line = String::new();
        if let Some(output) = server.child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim_end() {
            READY => Ok(server),
            _ => Err("the server did not start".into()),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and its socket may be gone: both is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What the process of the server does.
pub fn run(contender: Contender, path: &Path) -> Result<()> {
    // Its input ends when the client's process does, however that ends.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    contender.serve(path)
}

/// Tells the client that it may connect.
pub fn ready() {
    println!("{READY}");
}
