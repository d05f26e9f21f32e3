//! Tests of the project as a whole: its structure, its shipped files, and runs of the command.

mod architecture;
mod bad_input;
mod command;
mod interruption;
mod shipped;
mod smoke;
