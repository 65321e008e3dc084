//! The binary `postroom`: see [`postroom::cli`].

use mimalloc::MiMalloc;

/// Calls are allocated by one thread and freed by another, and big packets come and go: that of the C library gives
/// their pages back to the system each time, which costs more than all else that is done for a call of a megabyte.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    postroom::cli::main()
}
