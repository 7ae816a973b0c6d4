//! What is printed where it cannot be, or where nobody reads it.

use std::fs::File;
use std::io::pipe;
use std::process::{Command, Output, Stdio};

/// Prints a whole file of configuration to this.
fn print_to(output: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let Output { status, stderr, .. } = command.args(["config", "example"]).stdout(output).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_reader_that_has_seen_enough_is_nothing_wrong() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    assert_eq!(print_to(writer), (Some(0), String::new()));
}

#[test]
fn what_cannot_be_printed_is_an_error() {
    let full = File::create("/dev/full").unwrap();
    let expect = "evenkeel: standard output cannot be written to: No space left on device (os error 28)\n";
    assert_eq!(print_to(full), (Some(1), expect.to_owned()));
}
