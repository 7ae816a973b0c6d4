//! What a Lease that was read means for a call, as a value: the time comes in with each question.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

use super::{HOST, annotation};
use crate::lease::{LeaseCall, LeaseReply};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it; `takes` is set when it was not the caller's.
    Write {
        takes: bool,
    },
    Answer(LeaseReply),
}

/// What was seen of the Lease so far. No clock but our own counts: `renewTime` is another machine's word.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    version: Option<String>,
    /// Not before it was written: what is counted from here ends no earlier than its holder's own count.
    since: Instant,
    /// Whether it changed while we looked: then whoever wrote it was alive.
    changed: bool,
}

impl Watch {
    /// Says what a call means for the object that was read. `now` must not be before the object was read.
    pub(super) fn judge(&mut self, found: Option<&Lease>, call: &LeaseCall<'_>, now: Instant) -> Verdict {
        let holder = found.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone()).unwrap_or_default();
        let (left, changed) = self.observe(found, call.ttl, now);
        if holder == call.instance {
            return Verdict::Write { takes: false };
        }
        let left = if holder.is_empty() { Duration::ZERO } else { left };
        // Who thinks that it is his learns first that it is not: he must not write over the record of another.
        if left.is_zero() && call.open.is_none() {
            return Verdict::Write { takes: true };
        }
        let (instance, host) = (holder, annotation(found, HOST));
        Verdict::Answer(if changed || left.is_zero() || call.open.is_some() {
            LeaseReply::Held { instance, host, left }
        } else {
            LeaseReply::Watched { instance, host, left }
        })
    }

    /// How long what is there may still be good for, and whether somebody has renewed it since we look.
    fn observe(&mut self, found: Option<&Lease>, ttl: Duration, now: Instant) -> (Duration, bool) {
        let version = found.and_then(|lease| lease.metadata.resource_version.clone());
        let (since, changed) = match &self.seen {
            Some(seen) if seen.version == version => (seen.since, seen.changed),
            Some(_) => (now, true),
            None => (now, false),
        };
        self.seen = Some(Seen { version, since, changed });
        let seconds = found.and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds);
        let lasts = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(ttl, Duration::from_secs);
        ((since + lasts).saturating_duration_since(now), changed)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn lease(version: &str, holder: &str, seconds: i32) -> Lease {
        let holder_identity = (!holder.is_empty()).then(|| holder.to_owned());
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec { holder_identity, lease_duration_seconds: Some(seconds), ..LeaseSpec::default() }),
        }
    }

    /// What a story of objects that are read, each so many seconds after the first, means for `a`.
    fn check(open: Option<&str>, story: &[(u64, Option<Lease>)], expected: &[&str]) {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let call = LeaseCall { instance: "a", host: "host of a", ttl: TTL, open };
        let said = story.iter().map(|(after, lease)| {
            match watch.judge(lease.as_ref(), &call, start + Duration::from_secs(*after)) {
                Verdict::Write { takes: true } => "takes".to_owned(),
                Verdict::Write { takes: false } => "renews".to_owned(),
                Verdict::Answer(LeaseReply::Held { instance, left, .. }) => {
                    format!("{instance} has {}", left.as_secs())
                }
                Verdict::Answer(LeaseReply::Watched { instance, left, .. }) => {
                    format!("{instance} watched {}", left.as_secs())
                }
                Verdict::Answer(LeaseReply::Ours { .. }) => "nothing is ours before it is written".to_owned(),
            }
        });
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_lease_runs_out_by_our_own_count_from_when_it_was_first_seen_as_it_is() {
        let seen = |version: &str| Some(lease(version, "b", 20));
        check(
            None,
            &[(0, seen("1")), (6, seen("1")), (19, seen("1")), (20, seen("1"))],
            &["b watched 20", "b watched 14", "b watched 1", "takes"],
        );
        check(
            None,
            &[(0, seen("1")), (6, seen("2")), (20, seen("2")), (25, seen("2")), (26, seen("2"))],
            &["b watched 20", "b has 20", "b has 6", "b has 1", "takes"],
        );
    }

    #[test]
    fn what_is_not_there_or_was_given_back_is_taken_at_once() {
        check(None, &[(0, None)], &["takes"]);
        check(None, &[(0, Some(lease("1", "", 1)))], &["takes"]);
        check(None, &[(0, Some(Lease::default()))], &["takes"]);
        check(None, &[(0, Some(lease("1", "a", 30)))], &["renews"]);
    }

    #[test]
    fn whoever_thinks_it_is_his_writes_over_nobodys_record() {
        check(Some("[]"), &[(0, Some(lease("1", "a", 30))), (60, Some(lease("1", "a", 30)))], &["renews", "renews"]);
        check(Some("[]"), &[(0, Some(lease("1", "b", 30))), (30, Some(lease("1", "b", 30)))], &["b has 30", "b has 0"]);
        check(Some("[]"), &[(0, None), (1, Some(lease("1", "", 1)))], &[" has 0", " has 0"]);
    }

    #[test]
    fn a_holder_who_did_not_say_for_how_long_has_it_for_as_long_as_we_would() {
        let mut vague = lease("1", "b", 0);
        vague.spec.as_mut().unwrap().lease_duration_seconds = None;
        check(None, &[(0, Some(vague.clone())), (30, Some(vague))], &["b watched 30", "takes"]);
    }
}
