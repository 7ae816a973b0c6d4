//! `evenkeel check`: whether the cluster is whole. Changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::cases::{CaseDocument, cases};
use super::legend::legend;
use super::output::{out, outln};
use super::{instance, logging};
use crate::cli::{CheckArgs, ExitStatus};
use crate::cluster::{Finding, NodeId, OpenSlot, SlotSet, Unclear};
use crate::config::LogLevel;
use crate::daemon::{Diagnosis, Doctor, RepairError};
use crate::redis::Intent;
use crate::wording::plural;

/// `evenkeel check`.
pub(super) async fn check(args: &CheckArgs) -> anyhow::Result<ExitStatus> {
    let mut config = args.cluster.config()?;
    config.log.level = LogLevel::Off;
    logging::init(&config.log);
    let mut doctor = Doctor::new(&config, Intent::Observing, &instance());
    let diagnosis = doctor.diagnose().await.map_err(RepairError::from)?;
    doctor.close();
    let document = Document::of(&diagnosis);
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let text = document.text();
        out!("{text}{}", legend(&text, &diagnosis.topology));
    }
    Ok(if !diagnosis.uncounted.is_empty() || diagnosis.topology.unclear.iter().any(Unclear::hides_something) {
        ExitStatus::Failed
    } else if document.healthy {
        ExitStatus::Done
    } else {
        ExitStatus::Left
    })
}

/// What a check found.
#[derive(Serialize)]
struct Document {
    healthy: bool,
    primaries: usize,
    replicas: usize,
    slots_covered: usize,
    /// What forbids moves.
    unclear: Vec<Item>,
    /// What else is worth telling: one for each open slot.
    findings: Vec<Item>,
    /// The same, one for all open slots that are alike.
    #[serde(skip)]
    told: Vec<Item>,
    /// What `evenkeel repair` would do about each slot that is not as it should be.
    verdicts: Vec<CaseDocument>,
}

/// One thing that was found.
#[derive(Serialize)]
struct Item {
    name: &'static str,
    text: String,
}

impl Document {
    fn of(diagnosis: &Diagnosis) -> Self {
        let topology = &diagnosis.topology;
        let unclear = topology.unclear.iter().map(|unclear| Item { name: unclear.name(), text: unclear.to_string() });
        let unclear: Vec<Item> = unclear.collect();
        let (findings, told) = (findings(diagnosis, false), findings(diagnosis, true));
        let verdicts = cases(diagnosis, |_| None);
        Self {
            healthy: unclear.is_empty() && findings.is_empty() && verdicts.is_empty(),
            primaries: topology.shards.len(),
            replicas: topology.shards.values().map(|shard| shard.replicas.len()).sum(),
            slots_covered: topology.shards.values().map(|shard| shard.slots.len()).sum(),
            unclear,
            findings,
            told,
            verdicts,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}, {}, {} of 16384 slots covered\n",
            plural(self.primaries, "primary"),
            plural(self.replicas, "replica"),
            self.slots_covered
        );
        for (head, items) in [("unclear", &self.unclear), ("found", &self.told)] {
            for item in items {
                let _ = writeln!(text, "{head}: {}: {}", item.name, item.text);
            }
        }
        if !self.verdicts.is_empty() {
            text.push_str("what evenkeel repair would do, if nobody is at work there:\n");
            text.extend(self.verdicts.iter().map(CaseDocument::text));
        }
        if self.healthy {
            text.push_str("all nodes agree; no slot is open; no key is astray\n");
        }
        text
    }
}

/// What was found beside what makes the picture unclear; open slots that are alike together, or one by one.
fn findings(diagnosis: &Diagnosis, together: bool) -> Vec<Item> {
    let mut findings = of_topology(&diagnosis.topology.findings, together);
    let mut astray: BTreeMap<NodeId, (SlotSet, u64)> = BTreeMap::new();
    for (&slot, case) in &diagnosis.cases {
        for (&node, voice) in &case.facts.primaries {
            if voice.keys > 0 && voice.owner != Some(node) && voice.importing.is_none() {
                let (slots, keys) = astray.entry(node).or_default();
                slots.insert(slot);
                *keys += voice.keys;
            }
        }
    }
    findings.extend(astray.into_iter().map(|(node, (slots, keys))| Item {
        name: "stray_keys",
        text: format!(
            "{} holds {} of slots {slots}, which it neither owns nor imports",
            node.short(),
            plural(keys, "key")
        ),
    }));
    findings.extend(diagnosis.hidden.iter().map(|(node, keys)| Item {
        name: "hidden_keys",
        text: format!(
            "{} holds {} more than it shows: of slots that it neither owns nor imports",
            node.short(),
            plural(keys, "key")
        ),
    }));
    findings.extend(diagnosis.uncounted.iter().map(|(node, why)| Item {
        name: "not_counted",
        text: format!("the keys of {} could not be counted: {why}", node.short()),
    }));
    findings
}

/// The findings in their order, each where the first one like it stands.
fn of_topology(findings: &[Finding], together: bool) -> Vec<Item> {
    let mut open: Vec<(&OpenSlot, SlotSet, usize)> = Vec::new();
    let mut items: Vec<Item> = Vec::new();
    for found in findings {
        let slot = if let (true, Finding::OpenSlot(slot)) = (together, found) { Some(slot) } else { None };
        let like = slot.and_then(|slot| open.iter_mut().find(|(first, ..)| first.is_like(slot)));
        match (slot, like) {
            (Some(slot), Some((first, slots, at))) => {
                slots.insert(slot.slot);
                items[*at].text = first.text_of(slots);
            }
            (slot, _) => {
                open.extend(slot.map(|slot| (slot, SlotSet::from_iter([slot.slot]), items.len())));
                items.push(Item { name: found.name(), text: found.to_string() });
            }
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Topology;
    use crate::cluster::fixtures::{observation, with_names};

    #[test]
    fn open_slots_that_are_alike_are_told_in_one_line() {
        let observation =
            observation("a 0-8191 [5->-b] [7->-b] [8->-b] [9->-c]\nb 8192-16383 [5-<-a] [7-<-a] [8-<-a]\nc [9-<-a]");
        let topology = Topology::merge(&observation, &SlotSet::new());
        let told = |together| {
            let items = of_topology(&topology.findings, together);
            let open = items.into_iter().filter(|item| item.name == "open_slot");
            open.map(|item| with_names(&item.text, &observation)).collect::<Vec<_>>()
        };
        let expect = [
            "slots 5,7-8 are open and belong to a; a is giving them to b; b is taking them from a",
            "slot 9 is open and belongs to a; a is giving it to c; c is taking it from a",
        ];
        assert_eq!(told(true), expect);
        assert_eq!(told(false).len(), 4);
    }
}
