//! A part of each day, by the clock of a named zone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// A part of each day, such as `02:00-04:00 Europe/Berlin`: from the first minute on, to before the second one.
///
/// By the clock on the wall there, so that summer time moves it along. One that ends earlier than it begins goes over
/// midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
    zone_name: String,
    zone: TimeZone,
}

/// A text that is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no window of time, as in \"02:00-04:00 Europe/Berlin\"")]
pub struct WindowError;

impl Window {
    /// Whether this instant lies in it.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        let now = now.to_zoned(self.zone.clone()).time();
        if self.from < self.to { self.from <= now && now < self.to } else { self.from <= now || now < self.to }
    }

    /// How long it is from this instant until it begins the next time: a day at the most, or 25 hours where summer
    /// time ends.
    #[must_use]
    pub fn begins_in(&self, now: Timestamp) -> Duration {
        let here = now.to_zoned(self.zone.clone());
        let beginning = |date: Date| Some(self.zone.to_zoned(date.to_datetime(self.from)).ok()?.timestamp());
        let days = [Some(here.date()), here.date().tomorrow().ok()].into_iter().flatten();
        let next = days.filter_map(beginning).find(|begins| *begins > now);
        next.and_then(|begins| begins.duration_since(now).try_into().ok()).unwrap_or_default()
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (times, zone_name) = text.split_once(' ').ok_or(WindowError)?;
        let (from, to) = times.split_once('-').ok_or(WindowError)?;
        let (from, to) = (minute(from).ok_or(WindowError)?, minute(to).ok_or(WindowError)?);
        let zone = TimeZone::get(zone_name).map_err(|_| WindowError)?;
        if from == to {
            return Err(WindowError);
        }
        Ok(Self { from, to, zone_name: zone_name.to_owned(), zone })
    }
}

/// `02:00`; midnight may be written as `24:00` too.
fn minute(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| (part.len() == 2).then(|| part.parse::<i8>().ok()).flatten();
    match (two_digits(hour)?, two_digits(minute)?) {
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        write!(f, "{}-{} {}", time(self.from), time(self.to), self.zone_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(window: &str, instant: &str, expect: bool) {
        let window: Window = window.parse().unwrap();
        assert_eq!(window.contains(instant.parse().unwrap()), expect, "{window} {instant}");
    }

    #[test]
    fn the_hours_are_those_of_the_zone_in_summer_and_in_winter() {
        check("02:00-04:00 Europe/Berlin", "2026-07-01T00:00:00Z", true);
        check("02:00-04:00 Europe/Berlin", "2026-07-01T02:00:00Z", false);
        check("02:00-04:00 Europe/Berlin", "2026-01-01T00:59:59Z", false);
        check("02:00-04:00 Europe/Berlin", "2026-01-01T01:00:00Z", true);
        check("02:00-04:00 UTC", "2026-01-01T03:59:59Z", true);
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        check("22:00-04:00 UTC", "2026-01-01T23:00:00Z", true);
        check("22:00-04:00 UTC", "2026-01-01T03:59:00Z", true);
        check("22:00-04:00 UTC", "2026-01-01T04:00:00Z", false);
        check("20:00-24:00 UTC", "2026-01-01T23:59:59Z", true);
        check("20:00-24:00 UTC", "2026-01-01T00:00:00Z", false);
    }

    #[test]
    fn it_is_known_how_long_it_is_until_it_begins() {
        let check = |window: &str, instant: &str, hours: f64| {
            let begins_in = window.parse::<Window>().unwrap().begins_in(instant.parse().unwrap());
            assert_eq!(begins_in, Duration::from_secs_f64(hours * 3600.0), "{window} {instant}");
        };
        check("02:00-04:00 UTC", "2026-01-01T00:30:00Z", 1.5);
        check("02:00-04:00 UTC", "2026-01-01T02:00:00Z", 24.0);
        check("22:00-04:00 Europe/Berlin", "2026-07-01T12:00:00Z", 8.0);
        // The clock is set back by an hour, and forward over the hour in which it would begin.
        check("04:00-05:00 Europe/Berlin", "2026-10-25T00:00:00Z", 3.0);
        check("02:30-05:00 Europe/Berlin", "2026-03-29T00:30:00Z", 1.0);
    }

    #[test]
    fn what_is_no_window_is_refused_and_a_window_is_written_as_it_was_read() {
        for text in ["", "02:00-04:00", "02:00-04:00 Nowhere/Land", "2-4 UTC", "02:00-02:00 UTC", "25:00-04:00 UTC"] {
            assert_eq!(text.parse::<Window>(), Err(WindowError), "{text}");
        }
        assert_eq!("22:00-04:00 Europe/Berlin".parse::<Window>().unwrap().to_string(), "22:00-04:00 Europe/Berlin");
    }
}
