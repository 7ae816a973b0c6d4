//! `evenkeel check`: whether the cluster is whole. Changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::cases::{CaseDocument, cases};
use super::{instance, logging};
use crate::cli::{CheckArgs, ExitStatus};
use crate::cluster::{NodeId, SlotSet, Unclear};
use crate::config::LogLevel;
use crate::daemon::{Diagnosis, Doctor, RepairError};
use crate::redis::Intent;

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
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print!("{}", document.text());
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
    /// What else is worth telling.
    findings: Vec<Item>,
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
        let findings = findings(diagnosis);
        let verdicts = cases(diagnosis, |_| None);
        Self {
            healthy: unclear.is_empty() && findings.is_empty() && verdicts.is_empty(),
            primaries: topology.shards.len(),
            replicas: topology.shards.values().map(|shard| shard.replicas.len()).sum(),
            slots_covered: topology.shards.values().map(|shard| shard.slots.len()).sum(),
            unclear,
            findings,
            verdicts,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} primaries, {} replicas, {} of 16384 slots covered\n",
            self.primaries, self.replicas, self.slots_covered
        );
        for (head, items) in [("unclear", &self.unclear), ("found", &self.findings)] {
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

/// What was found beside what makes the picture unclear.
fn findings(diagnosis: &Diagnosis) -> Vec<Item> {
    let topology = &diagnosis.topology;
    let mut findings: Vec<Item> =
        topology.findings.iter().map(|found| Item { name: found.name(), text: found.to_string() }).collect();
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
        text: format!("{} holds {keys} keys of slots {slots}, which it neither owns nor imports", node.short()),
    }));
    findings.extend(diagnosis.hidden.iter().map(|(node, keys)| Item {
        name: "hidden_keys",
        text: format!(
            "{} holds {keys} keys more than it shows: of slots that it neither owns nor imports",
            node.short()
        ),
    }));
    findings.extend(diagnosis.uncounted.iter().map(|(node, why)| Item {
        name: "not_counted",
        text: format!("the keys of {} could not be counted: {why}", node.short()),
    }));
    findings
}
