//! A blocking handler: it may compute, read files, or call a library that blocks. It holds its own worker and nothing
//! else: pings, inline and async calls are answered meanwhile, and other workers take other calls.
//!
//! ```text
//! cargo run --example blocking_handler -- --listen unix:/tmp/files.sock &
//! postroom call --to unix:/tmp/files.sock files.count '{"path": "/etc/passwd"}'
//! ```

use actix::prelude::*;
use postroom::{Call, Code, Error, Program, Service};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many lines a file has.
#[derive(Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Count, FileError>")]
struct CountLines {
    path: String,
}

#[derive(JsonSchema, Serialize)]
struct Count {
    lines: usize,
    /// How many files this worker's handler has read so far: its own state, without a lock.
    read_by_this_worker: usize,
}

/// The handler's own error. The client sees what `From` makes of it, the log sees the cause.
struct FileError {
    path: String,
    cause: std::io::Error,
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        log::warn!("{}: {}", error.path, error.cause);
        match error.cause.kind() {
            std::io::ErrorKind::NotFound => {
                Self::new(Code::new("no_such_file"), format!("{:?} is not there", error.path))
            }
            _ => Self::failed(format!("{:?} cannot be read", error.path)),
        }
    }
}

#[derive(Default)]
struct Files {
    read: usize,
}

impl Actor for Files {
    type Context = Context<Self>;
}

impl Handler<Call<CountLines>> for Files {
    type Result = Result<Count, FileError>;

    fn handle(&mut self, call: Call<CountLines>, _: &mut Self::Context) -> Self::Result {
        let path = call.args.path;
        let bytes = std::fs::read(&path).map_err(|cause| FileError { path, cause })?;
        self.read += 1;
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        Ok(Count { lines, read_by_this_worker: self.read })
    }
}

fn main() -> postroom::Result<()> {
    let files =
        Program::new("files", 0x6669_6c65, 1).handler(Files::default).procedure::<CountLines>(1, "count").schema();
    Service::from_args()?.program(files).run()
}
