//! A part of each day, or of some days of the week, by the clock of a named zone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A part of each day, such as `02:00-04:00 Europe/Berlin`, or of some days, such as `Sat,Sun 00:00-24:00 UTC` and
/// `Mon-Fri 22:00-04:00 UTC`: from the first minute on, to before the second one.
///
/// By the clock on the wall there, so that summer time moves it along. One that ends earlier than it begins goes over
/// midnight, and belongs to the day on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// As it was written; empty for every day.
    days_text: String,
    /// From Monday on.
    days: [bool; 7],
    from: Time,
    to: Time,
    zone_name: String,
    zone: TimeZone,
}

/// A text that is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no window of time, as in \"02:00-04:00 Europe/Berlin\" or \"Sat,Sun 00:00-24:00 UTC\"")]
pub struct WindowError;

impl Window {
    /// Whether this instant lies in it.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        let here = now.to_zoned(self.zone.clone());
        let (time, today) = (here.time(), self.is_on(here.date()));
        let yesterday = here.date().yesterday().is_ok_and(|date| self.is_on(date));
        if self.from < self.to {
            today && self.from <= time && time < self.to
        } else {
            (today && self.from <= time) || (yesterday && time < self.to)
        }
    }

    /// How long it is from this instant until it begins the next time: a week at the most, and an hour more where summer
    /// time ends.
    #[must_use]
    pub fn begins_in(&self, now: Timestamp) -> Duration {
        let here = now.to_zoned(self.zone.clone());
        let beginning =
            |date: Date| self.is_on(date).then(|| self.zone.to_zoned(date.to_datetime(self.from)).ok()).flatten();
        let days = std::iter::successors(Some(here.date()), |date| date.tomorrow().ok()).take(8);
        let next = days.filter_map(beginning).map(|begins: Zoned| begins.timestamp()).find(|begins| *begins > now);
        next.and_then(|begins| begins.duration_since(now).try_into().ok()).unwrap_or_default()
    }

    fn is_on(&self, date: Date) -> bool {
        usize::try_from(date.weekday().to_monday_zero_offset()).is_ok_and(|day| self.days[day])
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (days_text, times, zone_name) = match text.split(' ').collect::<Vec<_>>()[..] {
            [times, zone] => ("", times, zone),
            [days, times, zone] if !days.is_empty() => (days, times, zone),
            _ => return Err(WindowError),
        };
        let days = if days_text.is_empty() { [true; 7] } else { days_of(days_text).ok_or(WindowError)? };
        let (from_text, to_text) = times.split_once('-').ok_or(WindowError)?;
        let (from, to) = (minute(from_text).ok_or(WindowError)?, minute(to_text).ok_or(WindowError)?);
        let zone = TimeZone::get(zone_name).map_err(|_| WindowError)?;
        if from_text == to_text || from_text == "24:00" {
            return Err(WindowError);
        }
        Ok(Self { days_text: days_text.to_owned(), days, from, to, zone_name: zone_name.to_owned(), zone })
    }
}

/// `Mon-Fri,Sun`, from Monday on.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (weekday(first)?, weekday(last)?);
        loop {
            days[usize::try_from(day.to_monday_zero_offset()).ok()?] = true;
            if day == last {
                break;
            }
            day = day.next();
        }
    }
    Some(days)
}

fn weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "Mon" => Weekday::Monday,
        "Tue" => Weekday::Tuesday,
        "Wed" => Weekday::Wednesday,
        "Thu" => Weekday::Thursday,
        "Fri" => Weekday::Friday,
        "Sat" => Weekday::Saturday,
        "Sun" => Weekday::Sunday,
        _ => return None,
    })
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
        if !self.days_text.is_empty() {
            write!(f, "{} ", self.days_text)?;
        }
        let time = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        let to = if self.to == Time::midnight() { "24:00".to_owned() } else { time(self.to) };
        write!(f, "{}-{to} {}", time(self.from), self.zone_name)
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
    fn a_window_on_some_days_belongs_to_the_day_on_which_it_begins() {
        // The first of January 2026 is a Thursday.
        check("Thu 22:00-04:00 UTC", "2026-01-01T23:00:00Z", true);
        check("Thu 22:00-04:00 UTC", "2026-01-02T03:00:00Z", true);
        check("Thu 22:00-04:00 UTC", "2026-01-01T03:00:00Z", false);
        check("Sat-Mon,Thu 00:00-24:00 UTC", "2026-01-01T12:00:00Z", true);
        check("Sat-Mon,Thu 00:00-24:00 UTC", "2026-01-02T12:00:00Z", false);
        check("Sat-Mon,Thu 00:00-24:00 UTC", "2026-01-04T12:00:00Z", true);
        check("Sat-Mon,Thu 00:00-24:00 UTC", "2026-01-05T12:00:00Z", true);
        check("Sat-Mon,Thu 00:00-24:00 UTC", "2026-01-06T00:00:00Z", false);
        // Friday there, Thursday here.
        check("Fri 08:00-09:00 Asia/Tokyo", "2026-01-01T23:30:00Z", true);
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
        check("Wed 02:00-04:00 UTC", "2026-01-01T02:00:00Z", 6.0 * 24.0);
        check("Thu 02:00-04:00 UTC", "2026-01-01T02:00:00Z", 7.0 * 24.0);
        // The clock is set back by an hour, and forward over the hour in which it would begin.
        check("04:00-05:00 Europe/Berlin", "2026-10-25T00:00:00Z", 3.0);
        check("02:30-05:00 Europe/Berlin", "2026-03-29T00:30:00Z", 1.0);
    }

    #[test]
    fn what_is_no_window_is_refused_and_a_window_is_written_as_it_was_read() {
        let wrong = [
            "",
            "02:00-04:00",
            "02:00-04:00 Nowhere/Land",
            "2-4 UTC",
            "02:00-02:00 UTC",
            "25:00-04:00 UTC",
            "24:00-04:00 UTC",
            "Mo 02:00-04:00 UTC",
            " 02:00-04:00 UTC",
            "Mon, 02:00-04:00 UTC",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Window>(), Err(WindowError), "{text}");
        }
        for text in ["22:00-04:00 Europe/Berlin", "Mon-Fri,Sun 00:00-24:00 UTC"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
    }
}
