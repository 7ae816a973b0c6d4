//! What the lease permits, as a value: the time comes in with each question.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::NodeId;
use crate::daemon::Reason;
use crate::journal::Opened;

/// Whether we have the lease, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub enum Tenure {
    /// No lease is configured: nothing depends on one.
    NotNeeded,
    /// Somebody else has it.
    Elsewhere {
        /// His name.
        holder: String,
        /// The machine that he runs on.
        host: String,
        /// When it runs out, unless he renews it.
        until: Instant,
    },
    /// We do not have it, and it is not known who does.
    Unknown {
        /// Why, for people.
        why: String,
    },
    /// We have it.
    Ours(Ours),
}

/// A lease that is ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Ours {
    /// Just before the last renewal that succeeded was sent: the lease lasts from then, at the least.
    pub sent: Instant,
    /// How long it lasts.
    pub ttl: Duration,
    /// When we got it.
    pub gained: Instant,
    /// What was open, by the record of whoever had it before us.
    pub inherited: Arc<Vec<Opened>>,
    /// The node that keeps it, where it is one of a cluster.
    pub kept_by: Option<NodeId>,
    /// What went wrong with the renewals since; empty when the last one succeeded.
    pub trouble: String,
}

impl Tenure {
    /// What remains of the lease; zero when it is not ours. `None` where none is needed.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::NotNeeded => None,
            Self::Elsewhere { .. } | Self::Unknown { .. } => Some(Duration::ZERO),
            Self::Ours(ours) => Some((ours.sent + ours.ttl).saturating_duration_since(now)),
        }
    }

    /// Whether a call that changes something may be sent: it must have had its time before the lease runs out.
    #[must_use]
    pub fn may_act(&self, now: Instant, call_timeout: Duration) -> bool {
        self.remaining(now).is_none_or(|remaining| remaining > call_timeout)
    }

    /// Whether owners may be changed: that takes two calls, and both must have had their time.
    #[must_use]
    pub fn may_finalise(&self, now: Instant, call_timeout: Duration) -> bool {
        self.remaining(now).is_none_or(|remaining| remaining > call_timeout * 2)
    }

    /// Why nothing may be changed; `None` while it may.
    #[must_use]
    pub fn reason(&self, now: Instant, call_timeout: Duration) -> Option<Reason> {
        if self.may_act(now, call_timeout) {
            return None;
        }
        Some(match self {
            Self::Elsewhere { holder, host, until } => Reason::LeaseHeld {
                holder: holder.clone(),
                host: host.clone(),
                left: until.saturating_duration_since(now),
            },
            Self::Unknown { why } => Reason::LeaseLost { why: why.clone() },
            Self::Ours(ours) if !ours.trouble.is_empty() => Reason::LeaseLost { why: ours.trouble.clone() },
            Self::Ours(_) | Self::NotNeeded => Reason::LeaseLost { why: "it was not renewed in time".to_owned() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Duration = Duration::from_secs(5);

    fn ours(sent: Instant) -> Tenure {
        Tenure::Ours(Ours {
            sent,
            ttl: Duration::from_secs(30),
            gained: sent,
            inherited: Arc::default(),
            kept_by: None,
            trouble: String::new(),
        })
    }

    #[test]
    fn a_lease_lasts_from_before_its_renewal_was_sent_and_owners_change_only_in_its_better_part() {
        let sent = Instant::now();
        let check = |after_ms: u64, may: (bool, bool)| {
            let now = sent + Duration::from_millis(after_ms);
            let tenure = ours(sent);
            assert_eq!((tenure.may_act(now, CALL), tenure.may_finalise(now, CALL)), may, "{after_ms} ms");
            assert_eq!(tenure.reason(now, CALL).is_none(), may.0, "{after_ms} ms");
        };
        check(0, (true, true));
        check(19_999, (true, true));
        check(20_000, (true, false));
        check(24_999, (true, false));
        check(25_000, (false, false));
        check(30_000, (false, false));
        // A process that was frozen for an hour.
        check(3_600_000, (false, false));
        assert_eq!(ours(sent).remaining(sent + Duration::from_hours(1)), Some(Duration::ZERO));
    }

    #[test]
    fn without_a_lease_of_ours_nothing_may_be_changed_and_without_any_everything() {
        let now = Instant::now();
        assert!(Tenure::NotNeeded.may_act(now, CALL) && Tenure::NotNeeded.may_finalise(now, CALL));
        assert_eq!(Tenure::NotNeeded.reason(now, CALL), None);
        let until = now + Duration::from_secs(7);
        let held = Tenure::Elsewhere { holder: "100-b-7".to_owned(), host: "b".to_owned(), until };
        assert!(!held.may_act(now, CALL) && !held.may_finalise(now, CALL));
        let reason = held.reason(now, CALL).expect("a reason");
        assert_eq!((reason.name(), reason.passes_by_itself()), ("lease_held", false));
        assert!(reason.to_string().contains("100-b-7 on b") && reason.to_string().contains("7 s"), "{reason}");
        let unknown = Tenure::Unknown { why: "refused".to_owned() };
        assert!(!unknown.may_act(now, CALL) && !unknown.may_finalise(now, CALL));
        assert_eq!(unknown.reason(now, CALL).map(|reason| reason.name()), Some("lease_lost"));
    }
}
