//! What time it is, by both clocks, read once for each answer so that all ages in it agree.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The time as RFC 3339 in UTC, to the millisecond; `None` for one that this cannot write, of beyond the year 9999.
#[must_use]
pub fn rfc3339(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(format!("{time:.3}"))
}

/// The present, as one answer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the clock that never goes back. Ages and times left are measured with it.
    pub instant: Instant,
    /// By the calendar. It may jump; only for times that are shown, or that come from outside the process.
    pub wall: SystemTime,
}

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago that was; zero when it is still to come.
    #[must_use]
    pub fn since(self, then: Instant) -> Duration {
        self.instant.saturating_duration_since(then)
    }

    /// How long ago that was by the calendar; zero when it is still to come, or the calendar was set back.
    #[must_use]
    pub fn since_wall(self, then: SystemTime) -> Duration {
        self.wall.duration_since(then).unwrap_or_default()
    }

    /// How long it is until then; zero when that has passed.
    #[must_use]
    pub fn until(self, then: Instant) -> Duration {
        then.saturating_duration_since(self.instant)
    }
}
