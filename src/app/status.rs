//! `evenkeel status`: what a running daemon does, how far it has come, and why it does nothing (more).

mod live;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use super::output::{out, outln};
use super::remote::{Answer, Remote, short};
use crate::cli::{ExitStatus, StatusArgs};
use crate::cluster::{Slot, SlotSet, Unclear};
use crate::http::json::{
    DrainDocument, ErrorDocument, PaceDocument, PlanDocument, PlanNode, SetAsideSlot, StatusDocument, WorkDocument,
};
use crate::wording::plural;

/// Lines about slots that are set aside; the JSON document has every slot.
const ASIDE_MAX: usize = 20;

/// `evenkeel status`.
pub(super) async fn status(args: &StatusArgs) -> anyhow::Result<ExitStatus> {
    let remote = Remote::new(&args.daemon)?;
    if args.health {
        outln!("{}", remote.health().await?);
        return Ok(ExitStatus::Done);
    }
    if !args.json && !args.once && std::io::stderr().is_terminal() {
        live::follow(&remote).await?;
    }
    let document = Document::ask(&remote).await?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        out!("{}", document.text());
    }
    Ok(document.result())
}

/// What the daemon told.
#[derive(Serialize)]
struct Document {
    status: StatusDocument,
    /// `null` while there is none; then `no_plan` says why.
    plan: Option<PlanDocument>,
    no_plan: Option<ErrorDocument>,
}

impl Document {
    async fn ask(remote: &Remote) -> anyhow::Result<Self> {
        let status = remote.get("/api/v1/status").await?.document()?;
        let (plan, no_plan) = match remote.get("/api/v1/plan").await? {
            Answer::Document(plan) => (Some(plan), None),
            Answer::None(error) => (None, Some(error)),
        };
        Ok(Self { status, plan, no_plan })
    }

    /// What is left to do, by what the daemon told.
    fn result(&self) -> ExitStatus {
        let status = &self.status;
        if status.work.active || !status.moves.is_empty() {
            return ExitStatus::Left;
        }
        // What else is known was seen earlier, and may be so no more.
        if status.reasons.iter().any(|reason| reason.name == "no_view") {
            return ExitStatus::Failed;
        }
        let planned = self.plan.as_ref().is_some_and(|plan| plan.slots_to_move > 0);
        let is_unclear = |name: &str| Unclear::NAMES.contains(&name);
        let waits_for_a_human = self.plan.is_none()
            && status.reasons.iter().any(|reason| !reason.passes_by_itself && !is_unclear(&reason.name));
        let begun = status.open_slots.count > 0 || status.approved.is_some() || !status.set_aside.is_empty();
        if begun || planned || waits_for_a_human {
            ExitStatus::Left
        } else if self.plan.is_none() {
            ExitStatus::Failed
        } else {
            ExitStatus::Done
        }
    }

    fn text(&self) -> String {
        let status = &self.status;
        let mut text = format!("{}: evenkeel {} ({})\n", status.cluster, status.version, status.mode);
        let seen =
            status.look.age_s.map_or_else(|| "not seen yet".to_owned(), |age| format!("last seen {age:.1} s ago"));
        let _ = writeln!(text, "the cluster was {seen}; {} open", are(status.open_slots.count));
        for error in &status.look.errors {
            let _ = writeln!(text, "look failed: {error}");
        }
        if let Some(error) = &status.config.error {
            let _ = writeln!(text, "the configuration was refused and the old one is in use: {error}");
        }
        for warning in &status.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        if let Some(plan) = &self.plan {
            text.push('\n');
            text.push_str(&nodes(&plan.nodes));
            let _ = writeln!(text, "\n{} to move", are(plan.slots_to_move as usize));
        }
        for drain in &status.drains {
            let since = drain.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
            let now = match (&drain.replica_of, &drain.address) {
                (Some(primary), _) => format!("; it is a replica of {} now", self.name(primary)),
                (None, None) if status.look.number > 0 => {
                    "; no node of the cluster any more, and drained again if it comes back (`evenkeel undrain` with that id ends it)"
                        .to_owned()
                }
                (None, _) => String::new(),
            };
            let _ = writeln!(text, "drained, as told{since}: {}{now}", drained(drain));
        }
        if let Some(hash) = &status.approved {
            let _ = writeln!(text, "plan {hash} was approved and is not at its end");
        }
        text.push_str(&self.work());
        for reason in &status.reasons {
            let _ = writeln!(text, "because: {}: {}", reason.name, reason.text);
        }
        text.push_str(&set_aside(&status.set_aside));
        if self.result() == ExitStatus::Done {
            text.push_str("nothing is left to do\n");
        }
        text
    }

    /// What is at work, and how far it has come.
    fn work(&self) -> String {
        let status = &self.status;
        let mut text = String::new();
        // It goes on when what stands in the way is gone; until then nobody is at it.
        let halted = status.moves.is_empty() && !status.reasons.is_empty();
        if status.work.active && !halted {
            let work = &status.work;
            let _ = writeln!(
                text,
                "at work: {} of {} moved{}  {}",
                work.slots_moved,
                plural(work.slots_planned, "slot"),
                bytes(work.bytes_moved_estimated),
                rates(work)
            );
        }
        for running in &status.moves {
            let waits = running.waits_for.as_ref().map_or_else(|| pace(&running.pace), |why| format!("; waits: {why}"));
            let _ = writeln!(
                text,
                "{}: {} -> {}, {} of {}, {}{}{waits}",
                running.purpose,
                self.name(&running.source),
                self.name(&running.target),
                running.slots_moved,
                plural(running.slots.count, "slot"),
                plural(running.keys_moved, "key"),
                running.bytes_moved_estimated.map(bytes).unwrap_or_default()
            );
        }
        if status.moves_waiting > 0 {
            let _ = writeln!(
                text,
                "{} {} for their turn",
                plural(status.moves_waiting, "more move"),
                if status.moves_waiting == 1 { "waits" } else { "wait" }
            );
        }
        text
    }

    /// A node as `10.0.0.1:6379 (0a1b2c3d)`; by its id alone where the plan does not have it.
    fn name(&self, id: &str) -> String {
        let known = self.plan.iter().flat_map(|plan| &plan.nodes).find(|node| node.node == id);
        match known.and_then(|node| node.address.as_ref()) {
            Some(address) => format!("{address} ({})", short(id)),
            None => short(id).to_owned(),
        }
    }
}

/// As `10.0.0.1:6379 (0a1b2c3d)`; by its whole id where the cluster does not know it any more.
fn drained(drain: &DrainDocument) -> String {
    let of_address = |address| format!("{address} ({})", short(&drain.node));
    drain.address.as_ref().map_or_else(|| drain.node.clone(), of_address)
}

/// The nodes against their targets, one line each.
fn nodes(nodes: &[PlanNode]) -> String {
    let mut rows = vec![["node", "slots", "target", "difference"].map(str::to_owned)];
    rows.extend(nodes.iter().map(|node| {
        let name = node.address.clone().unwrap_or_else(|| node.node.clone());
        [name, node.now.to_string(), node.target.to_string(), format!("{:+}", node.difference)]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    rows.iter().fold(String::new(), |mut text, row| {
        let _ = writeln!(
            text,
            "{:name$}  {:>now$}  {:>target$}  {:>off$}",
            row[0],
            row[1],
            row[2],
            row[3],
            name = widths[0],
            now = widths[1],
            target = widths[2],
            off = widths[3]
        );
        text
    })
}

/// `; up to 120 keys a call of 1.8 ms (limit: block)`; nothing before the move has begun.
fn pace(pace: &PaceDocument) -> String {
    if pace.batch_keys == 0 {
        return String::new();
    }
    let block = pace.block_s.map_or_else(String::new, |block| format!(" of {:.1} ms", block * 1_000.0));
    format!("; up to {} keys a call{block} (limit: {})", pace.batch_keys, pace.limit)
}

/// One line for all slots that wait for the same thing.
fn set_aside(slots: &[SetAsideSlot]) -> String {
    let mut alike: Vec<(String, SlotSet)> = Vec::new();
    for slot in slots {
        let next = match slot.next_try_in_s {
            None => "given up until `evenkeel retry`".to_owned(),
            Some(left) if left < 0.5 => "tried again when its move has its turn".to_owned(),
            Some(left) => format!("tried again in {left:.0} s"),
        };
        let tries = if slot.attempts == 1 { "1 try".to_owned() } else { format!("{} tries", slot.attempts) };
        let told = format!("after {tries}, {next}: {}: {}", slot.trouble, slot.why);
        let number = Slot::new(slot.slot);
        match alike.iter_mut().find(|(known, _)| *known == told) {
            Some((_, slots)) => slots.extend(number),
            None => alike.push((told, number.into_iter().collect())),
        }
    }
    let mut text = String::new();
    for (told, slots) in alike.iter().take(ASIDE_MAX) {
        let _ = writeln!(text, "set aside: slot{} {slots} {told}", if slots.len() == 1 { "" } else { "s" });
    }
    let rest: usize = alike.iter().skip(ASIDE_MAX).map(|(_, slots)| slots.len()).sum();
    if rest > 0 {
        let _ = writeln!(text, "set aside: {}; --json lists them", plural(rest, "more slot"));
    }
    text
}

/// `1234 slots/s  56789 keys/s  ETA 3s`.
fn rates(work: &WorkDocument) -> String {
    let seconds = work.elapsed_s.max(0.001);
    let left = work.left_s.and_then(|left| Duration::try_from_secs_f64(left.ceil()).ok());
    let left = left.map_or_else(|| "-".to_owned(), |left| humantime::format_duration(left).to_string());
    format!(
        "{:.0} slots/s  {:.0} keys/s  ETA {left}",
        work.slots_moved as f64 / seconds,
        work.keys_moved as f64 / seconds
    )
}

/// `1 slot is`, `2 slots are`.
fn are(slots: usize) -> String {
    format!("{} {}", plural(slots, "slot"), if slots == 1 { "is" } else { "are" })
}

/// `, about 12.3 MB`; nothing where nothing is known to have moved.
fn bytes(estimated: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(size, _)| estimated >= *size) {
        Some((size, unit)) => format!(", about {:.1} {unit}", estimated as f64 / size as f64),
        None if estimated > 0 => format!(", about {estimated} B"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::http::json::{plan_document, status_document};
    use crate::metrics::testing::{now, starting, working};

    fn document(status: &crate::daemon::Status, now: crate::clock::Now) -> Document {
        Document {
            status: status_document(status, now),
            plan: status.plan.as_ref().map(|plan| plan_document(plan)),
            no_plan: None,
        }
    }

    #[test]
    fn a_daemon_at_work_is_told_of_with_its_nodes_its_moves_and_what_it_set_aside() {
        let now = now();
        let document = document(&working(now), now);
        assert_eq!(document.result(), ExitStatus::Left);
        expect![[r#"
            cache-eu: evenkeel 0.1.0 (act)
            the cluster was last seen 2.0 s ago; 1 slot is open
            the configuration was refused and the old one is in use: line 3: cluster.sseds is not a key
            warning: the token file /run/token is empty

            node           slots  target  difference
            10.0.0.1:6379   8192    5462       -2730
            10.0.0.2:6379   8192    5461       -2731
            10.0.0.3:6379      0    5461       +5461

            5461 slots are to move
            at work: 250 of 1000 slots moved, about 1.5 MB  20 slots/s  240 keys/s  ETA 38s
            move: 10.0.0.1:6379 (00000001) -> 10.0.0.3:6379 (00000003), 250 of 999 slots, 3000 keys, about 1.5 MB; waits: the finalise of another move
            2 more moves wait for their turn
            because: set_aside: slot 5 is set aside: it would not
            set aside: slot 5 after 3 tries, tried again in 30 s: refused: it would not
        "#]]
        .assert_eq(&document.text());
    }

    #[test]
    fn one_is_not_many_and_bytes_have_units() {
        assert_eq!([are(0), are(1), are(2)], ["0 slots are", "1 slot is", "2 slots are"]);
        assert_eq!(
            [0, 999, 1_500, 2_000_000, 3_210_000_000].map(bytes),
            ["", ", about 999 B", ", about 1.5 kB", ", about 2.0 MB", ", about 3.2 GB"]
        );
    }

    #[test]
    fn what_is_left_decides_the_exit_status() {
        let now = now();
        let check = |change: &dyn Fn(&mut Document), expect: ExitStatus| {
            let mut document = document(&working(now), now);
            document.status.work.active = false;
            document.status.moves.clear();
            document.status.set_aside.clear();
            document.status.open_slots.count = 0;
            document.status.reasons.clear();
            document.plan.as_mut().unwrap().slots_to_move = 0;
            change(&mut document);
            assert_eq!(document.result(), expect, "{}", document.text());
        };
        check(&|_| {}, ExitStatus::Done);
        check(&|told| told.plan.as_mut().unwrap().slots_to_move = 1, ExitStatus::Left);
        check(&|told| told.status.open_slots.count = 1, ExitStatus::Left);
        check(&|told| told.status.set_aside = status_document(&working(now), now).set_aside, ExitStatus::Left);
        check(&|told| told.status.work.active = true, ExitStatus::Left);
        check(&|told| told.status.approved = Some("0123456789ab".to_owned()), ExitStatus::Left);
        check(&|told| told.plan = None, ExitStatus::Failed);
        // The plan is the one of the last look that succeeded.
        let blind = |told: &mut Document| told.status.reasons = status_document(&starting(now), now).reasons;
        check(&blind, ExitStatus::Failed);
        let cannot = |told: &mut Document| {
            told.plan = None;
            told.status.reasons = status_document(&starting(now), now).reasons;
            told.status.reasons[0].name = "target_unmatched".to_owned();
            told.status.reasons[0].passes_by_itself = false;
        };
        check(&cannot, ExitStatus::Left);
        let unclear = |told: &mut Document| {
            cannot(told);
            told.status.reasons[0].name = "two_clusters".to_owned();
        };
        check(&unclear, ExitStatus::Failed);
    }
}
