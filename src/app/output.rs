//! Standard output, which may be a pipe whose reader has seen enough (`evenkeel plan | head`).

use std::fmt;
use std::io::{self, Write};

use crate::cli::ExitStatus;

/// Like `print!`, and no error where nobody reads any more: what was asked for is done all the same.
macro_rules! out {
    ($($words:tt)*) => {
        $crate::app::output::write(format_args!($($words)*))
    };
}

/// Like `println!`, with the same difference as [`out`].
macro_rules! outln {
    ($($words:tt)*) => {
        $crate::app::output::write(format_args!("{}\n", format_args!($($words)*)))
    };
}

pub(super) use {out, outln};

/// Writes text; ends the process with an error where that is not possible, as on a full disk.
pub(super) fn write(text: fmt::Arguments<'_>) {
    let mut output = io::stdout().lock();
    match output.write_fmt(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("evenkeel: standard output cannot be written to: {error}");
            std::process::exit(ExitStatus::Failed.code().into());
        }
        Ok(()) | Err(_) => {}
    }
}
