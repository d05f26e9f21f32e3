//! The binary; everything is in the library, so that tests can build it under another name.

fn main() -> std::process::ExitCode {
    neutral_runner::main()
}
