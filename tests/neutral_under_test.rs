//! The command `neutral`, for the tests of this crate.

fn main() -> std::process::ExitCode {
    neutral_runner::main()
}
