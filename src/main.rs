//! The binary `postroom`: see [`postroom::cli`].

fn main() -> std::process::ExitCode {
    postroom::cli::main()
}
