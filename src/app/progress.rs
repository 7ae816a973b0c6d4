//! Progress on a terminal as a bar, elsewhere as a line every few seconds; both on stderr.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::{Status, Work};

/// How often a bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is printed where there is no terminal.
const PRINT_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress until it is aborted.
pub(super) async fn show(status: watch::Receiver<Arc<Status>>, stop: CancellationToken) {
    if std::io::stderr().is_terminal() {
        draw(status, stop).await;
    } else {
        print(status).await;
    }
}

/// Clears the bar when the task is aborted.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

async fn draw(status: watch::Receiver<Arc<Status>>, stop: CancellationToken) {
    let bar = Bar(ProgressBar::new(0));
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} slots  {msg}") {
        bar.0.set_style(style);
    }
    loop {
        let (work, reason) = glance(&status);
        bar.0.set_length(work.slots_planned as u64);
        bar.0.set_position(work.slots_moved as u64);
        let stopping = if stop.is_cancelled() { "stopping; " } else { "" };
        bar.0.set_message(format!("{stopping}{}", if work.active { rates(&work) } else { reason }));
        tokio::time::sleep(DRAW_EVERY).await;
    }
}

async fn print(status: watch::Receiver<Arc<Status>>) {
    let mut said = String::new();
    let mut last = Instant::now();
    loop {
        let (work, reason) = glance(&status);
        let due = last.elapsed() >= PRINT_EVERY;
        if work.active && due {
            eprintln!("{}/{} slots  {}", work.slots_moved, work.slots_planned, rates(&work));
            last = Instant::now();
        } else if !work.active && !reason.is_empty() && reason != said && due {
            eprintln!("waiting: {reason}");
            said = reason;
            last = Instant::now();
        }
        tokio::time::sleep(DRAW_EVERY).await;
    }
}

fn glance(status: &watch::Receiver<Arc<Status>>) -> (Work, String) {
    let status = status.borrow().clone();
    let waits = status.moves.iter().map(|running| running.waits_for.clone()).find(|waits| !waits.is_empty());
    let reason = waits.or_else(|| status.reasons.first().map(ToString::to_string)).unwrap_or_default();
    (status.work, reason)
}

/// `1234 slots/s  56789 keys/s  ETA 3s`.
fn rates(work: &Work) -> String {
    let seconds = work.elapsed.as_secs_f64().max(0.001);
    let left = work.time_left().map_or_else(
        || "-".to_owned(),
        |left| humantime::format_duration(Duration::from_secs(left.as_secs() + 1)).to_string(),
    );
    format!(
        "{:.0} slots/s  {:.0} keys/s  ETA {left}",
        work.slots_moved as f64 / seconds,
        work.keys_moved as f64 / seconds
    )
}
