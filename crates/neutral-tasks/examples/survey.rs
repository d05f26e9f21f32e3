//! Which tasks of a folder are read, and why the others are not:
//!
//!     cargo run --release -p neutral-tasks --example survey -- LM_EVAL/tasks
//!
//! Counts tasks of the output types that log-likelihoods serve.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use neutral_tasks::{Library, TaskError};

fn main() -> Result<(), TaskError> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let library = Library::open(&folders)?;
    let (mut read, mut generate) = (0, 0);
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in library.tasks() {
        match library.select(&[name]) {
            Ok(_) => read += 1,
            Err(TaskError::Config { field, .. }) if field == "output_type" => generate += 1,
            Err(TaskError::Config { field, found, .. }) => {
                reasons.entry(format!("{field} {found}")).or_default().push(name);
            }
            Err(other) => reasons.entry(other.to_string()).or_default().push(name),
        }
    }
    let refused: usize = reasons.values().map(Vec::len).sum();
    println!("{} tasks, {read} read, {refused} not; {generate} generate text", read + refused);
    for error in library.broken() {
        println!("broken: {error}");
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    for (reason, names) in reasons {
        println!("{:5}  {reason}  ({})", names.len(), names[0]);
    }
    Ok(())
}
