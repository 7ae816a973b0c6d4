//! What the demonstration prints: for people, on stdout, with a bar where that is a terminal.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clients::Counts;
use super::cluster::Layout;
use crate::http::json::WorkDocument;

/// How often a line is printed where there is no terminal.
const PRINT_EVERY: Duration = Duration::from_secs(1);

/// Prints a line. A reader that went away is no reason to stop halfway.
pub(super) fn say(text: impl Display) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints one step of the story: what, and what about it.
pub(super) fn step(what: &str, about: impl Display) {
    say(format!("  {what:<16}{about}"));
}

/// How far the work has come: a bar that is gone at the end, or lines.
#[derive(Debug)]
pub(super) struct Progress {
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    printed: Cell<Option<Instant>>,
}

impl Progress {
    /// Shows nothing yet.
    pub(super) fn begin() -> Self {
        let bar = stdout().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            if let Ok(style) = ProgressStyle::with_template("  {bar:16.green} {wide_msg}") {
                bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
            }
            bar
        });
        Self { bar, printed: Cell::new(None) }
    }

    /// Slots move.
    pub(super) fn show(&self, work: &WorkDocument, counts: &Counts) {
        if let Some(bar) = &self.bar {
            bar.set_length(work.slots_planned as u64);
            bar.set_position(work.slots_moved as u64);
        }
        let (moved, planned) = (HumanCount(work.slots_moved as u64), HumanCount(work.slots_planned as u64));
        self.put(&format!("{moved}/{planned} slots; {}", clients(counts)));
    }

    /// Nothing moves yet, for this reason.
    pub(super) fn wait(&self, reason: &str, counts: &Counts) {
        self.put(&format!("waiting: {reason}; {}", clients(counts)));
    }

    fn put(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None if self.printed.get().is_none_or(|printed| printed.elapsed() >= PRINT_EVERY) => {
                say(format!("  {text}"));
                self.printed.set(Some(Instant::now()));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None if self.printed.get().is_some() => say(""),
            None => {}
        }
    }
}

fn clients(counts: &Counts) -> String {
    let (errors, lost) = counts.troubles();
    format!("clients: {} calls, {errors} errors, {lost} lost", HumanCount(counts.calls()))
}

/// What each primary held and holds.
pub(super) fn table(before: &Layout, after: &Layout) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["primary", "slots before", "slots after", "keys before", "keys after"]);
    for (index, share) in after.0.iter().enumerate() {
        let old = before.0.get(index).map_or((0, 0), |old| (old.slots as u64, old.keys));
        let numbers = [old.0, share.slots as u64, old.1, share.keys].map(|number| HumanCount(number).to_string());
        table.add_row(std::iter::once(share.address.to_string()).chain(numbers));
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    // In line with the steps above it.
    let lines: Vec<_> = table.trim_fmt().lines().map(|line| format!(" {line}")).collect();
    lines.join("\n")
}
