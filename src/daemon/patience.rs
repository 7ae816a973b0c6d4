//! When a command with an end stops waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Reason, SetAside};
use crate::cluster::Slot;
use crate::config::ScheduleConfig;

/// How often such a command tries a slot.
const ATTEMPTS: u32 = 3;
/// How long it waits for the picture to become clear: failovers and elections take seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether waiting any longer is of no use. `waited` is how long there has been a reason not to act; `never_seen` says
/// that no look has succeeded so far, `for_lease` how long it may take until it is known who has the lease, `open` that slots
/// of ours are: after a failover they are finished between other nodes than were named, which may be why there is no plan.
pub(super) fn is_over(
    reasons: &[Reason],
    set_aside: &BTreeMap<Slot, SetAside>,
    schedule: &ScheduleConfig,
    waited: Duration,
    for_lease: Duration,
    never_seen: bool,
    open: bool,
) -> bool {
    let unreachable = matches!(reasons.first(), Some(Reason::NoView { errors }) if !errors.is_empty());
    let lasts = |reason: &Reason| !(reason.passes_by_itself() || open && matches!(reason, Reason::Targets(_)));
    if unreachable && never_seen || reasons.iter().any(lasts) {
        return true;
    }
    // One that was never tried waits for its hours.
    let is_over = |aside: &SetAside| aside.attempts == 0 || aside.attempts >= ATTEMPTS;
    if !set_aside.is_empty() && set_aside.values().all(is_over) {
        return true;
    }
    let for_others = |reason: &Reason| {
        matches!(
            reason,
            Reason::ForeignOpenSlots { .. }
                | Reason::ForeignMove { .. }
                | Reason::ServerSideJob { .. }
                | Reason::Settling { .. }
        )
    };
    let patience = if reasons.iter().any(for_others) {
        schedule.adopt_after.max(schedule.foreign_quiet) * 2 + PATIENCE
    } else if reasons.iter().any(|reason| matches!(reason, Reason::LeaseLost { .. })) {
        for_lease.max(PATIENCE)
    } else {
        PATIENCE
    };
    waited > patience
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TargetFault;

    #[test]
    fn a_command_waits_for_as_long_as_a_lease_may_have_to_be_watched() {
        let check = |waited: u64, for_lease: u64, over: bool| {
            let reasons = [Reason::LeaseLost { why: "it is watched".to_owned() }];
            let [waited, for_lease] = [waited, for_lease].map(Duration::from_secs);
            let schedule = ScheduleConfig::default();
            let said = is_over(&reasons, &BTreeMap::new(), &schedule, waited, for_lease, false, false);
            assert_eq!(said, over, "{waited:?} of {for_lease:?}");
        };
        check(15, 5, false);
        check(16, 5, true);
        check(48, 48, false);
        check(49, 48, true);
    }

    #[test]
    fn a_command_whose_target_is_gone_finishes_what_it_has_open() {
        let node = "10.0.0.1:6379".parse().unwrap();
        let reasons = [Reason::Targets(TargetFault::TargetUnmatched { node })];
        let schedule = ScheduleConfig::default();
        let is_over = |waited: u64, open: bool| {
            let waited = Duration::from_secs(waited);
            is_over(&reasons, &BTreeMap::new(), &schedule, waited, Duration::ZERO, false, open)
        };
        assert!(is_over(0, false));
        assert!(!is_over(15, true));
        assert!(is_over(16, true));
    }
}
