//! Slots that could not be moved: how long each waits, and which are given up until a human puts them back.
//!
//! Pure: the time comes in as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Retried;
use crate::cluster::{Slot, SlotSet};
use crate::config::MigrationConfig;
use crate::migration::{Blocked, Trouble};

/// A slot that could not be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// How often it was tried.
    pub attempts: u32,
    /// What kind of trouble the last try had: one of [`Trouble::NAMES`].
    pub trouble: &'static str,
    /// Why the last try failed, for people.
    pub why: String,
    /// How long it waits from the last try to the next; it doubles from try to try.
    pub delay: Duration,
    /// When it is tried again; `None` when only a human can help.
    pub next_try: Option<Instant>,
}

impl SetAside {
    /// After another try that failed.
    ///
    /// What is open must be finished some day, and a target may be given room: that is tried for ever, at the longest
    /// delay. A big key that has its hours waits for them, and that is no try.
    pub(super) fn after(
        before: Option<&Self>,
        trouble: &Trouble,
        open: bool,
        limits: &MigrationConfig,
        now: Instant,
    ) -> Self {
        let attempts = before.map_or(0, |before| before.attempts);
        if let Trouble::BigKey { begins_in: Some(delay), .. } = *trouble {
            let (trouble, why) = (trouble.name(), trouble.to_string());
            return Self { attempts, trouble, why, delay, next_try: Some(now + delay) };
        }
        let attempts = attempts.saturating_add(1);
        let doubled = limits.retry_delay.saturating_mul(2u32.saturating_pow(attempts.min(16) - 1));
        let delay = doubled.min(limits.retry_delay_max);
        let again = attempts < limits.attempts || open || matches!(trouble, Trouble::Blocked(Blocked::TargetFull(_)));
        Self {
            attempts,
            trouble: trouble.name(),
            why: trouble.to_string(),
            delay,
            next_try: again.then(|| now + delay),
        }
    }
}

/// Puts slots back: they wait no longer, and their tries are counted anew.
pub(super) fn put_back(set_aside: &mut BTreeMap<Slot, SetAside>, slots: &SlotSet) -> Retried {
    let put_back: SlotSet = set_aside.keys().copied().filter(|slot| slots.contains(*slot)).collect();
    set_aside.retain(|slot, _| !slots.contains(*slot));
    Retried { not_set_aside: slots.difference(&put_back), put_back }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> MigrationConfig {
        let (retry_delay, retry_delay_max) = (Duration::from_secs(1), Duration::from_secs(5));
        MigrationConfig { attempts: 5, retry_delay, retry_delay_max, ..MigrationConfig::default() }
    }

    /// The waits, in seconds, after each of so many tries that fail one after the other; `None` for none.
    fn waits(tries: usize, open: bool) -> Vec<Option<u64>> {
        let (now, mut before, mut waits) = (Instant::now(), None, Vec::new());
        for _ in 0..tries {
            let after = SetAside::after(before.as_ref(), &Trouble::Interrupted, open, &limits(), now);
            waits.push(after.next_try.map(|at| (at - now).as_secs()));
            assert_eq!(after.next_try.map_or(after.delay, |at| at - now), after.delay);
            before = Some(after);
        }
        waits
    }

    #[test]
    fn the_wait_doubles_and_a_slot_that_is_not_open_is_given_up_in_the_end() {
        assert_eq!(waits(5, false), [Some(1), Some(2), Some(4), Some(5), None]);
    }

    #[test]
    fn a_slot_that_is_open_is_tried_for_ever() {
        let waits = waits(100, true);
        assert_eq!(&waits[..4], [Some(1), Some(2), Some(4), Some(5)]);
        assert!(waits[4..].iter().all(|wait| *wait == Some(5)));
    }

    #[test]
    fn a_big_key_waits_for_its_hours_however_often_they_have_passed() {
        let (now, day) = (Instant::now(), Duration::from_hours(24));
        let (block, limit) = (Duration::from_millis(400), Duration::from_millis(200));
        let (until, begins_in) = (Some("02:00-04:00 UTC".to_owned()), Some(day));
        let trouble = Trouble::BigKey { slot: Slot::new(7).unwrap(), block, limit, until, begins_in };
        let mut before = None;
        for _ in 0..100 {
            before = Some(SetAside::after(before.as_ref(), &trouble, false, &limits(), now));
        }
        assert!(matches!(before, Some(SetAside { attempts: 0, next_try: Some(at), .. }) if at == now + day));
    }

    #[test]
    fn a_slot_that_is_put_back_begins_anew_and_others_stay() {
        let aside = SetAside::after(None, &Trouble::Interrupted, false, &limits(), Instant::now());
        let slot = |number| Slot::new(number).unwrap();
        let mut set_aside: BTreeMap<Slot, SetAside> = [5, 7, 9].map(|number| (slot(number), aside.clone())).into();
        let retried = put_back(&mut set_aside, &"5,8-9".parse().unwrap());
        assert_eq!((retried.put_back.to_string(), retried.not_set_aside.to_string()), ("5,9".into(), "8".into()));
        assert_eq!(set_aside.keys().copied().collect::<Vec<_>>(), [slot(7)]);
    }
}
