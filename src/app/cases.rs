//! Slots that are not as they should be, told to people and to machines: what is known, what is to be done, and why.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::cluster::{Slot, SlotSet};
use crate::daemon::{Case, Diagnosis};
use crate::migration::Verdict;
use crate::wording::plural;

/// Of how many slots with one verdict the facts are told one by one.
const TOLD: usize = 4;

/// Slots with one verdict.
#[derive(Serialize)]
pub(super) struct CaseDocument {
    /// As `5,7-9`.
    pub(super) slots: String,
    /// The row of the repair table.
    pub(super) row: Option<u8>,
    /// `settle`, `go_forward`, `gather`, `wait`, `human` or `cannot_tell`.
    pub(super) verdict: &'static str,
    /// What is to be done.
    pub(super) action: String,
    /// Why.
    pub(super) why: &'static str,
    /// What is known, of the first few slots.
    pub(super) facts: Vec<FactsDocument>,
    /// How many slots there are beyond these.
    #[serde(skip)]
    more: usize,
    /// Why it was left as it is; absent where nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<String>,
    /// What a human may say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) choices: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct FactsDocument {
    slot: u16,
    text: String,
    primaries: Vec<VoiceDocument>,
    silent: Vec<String>,
}

/// What one primary says of a slot.
#[derive(Serialize)]
struct VoiceDocument {
    node: String,
    owner: Option<String>,
    migrating: Option<String>,
    importing: Option<String>,
    keys: u64,
    epoch: u64,
}

/// The cases of a diagnosis by their verdict and by why they were left, in the order of their first slots.
pub(super) fn cases(diagnosis: &Diagnosis, left: impl Fn(Slot) -> Option<String>) -> Vec<CaseDocument> {
    type Group<'a> = Vec<(Slot, &'a Case)>;
    let mut groups: BTreeMap<(&Verdict, Option<String>), Group> = BTreeMap::new();
    for (&slot, case) in &diagnosis.cases {
        groups.entry((&case.verdict, left(slot))).or_default().push((slot, case));
    }
    let mut documents: Vec<(Slot, CaseDocument)> =
        groups.into_iter().map(|((_, left), cases)| (cases[0].0, CaseDocument::of(&cases, left))).collect();
    documents.sort_by_key(|(first, _)| *first);
    documents.into_iter().map(|(_, document)| document).collect()
}

impl CaseDocument {
    fn of(cases: &[(Slot, &Case)], left: Option<String>) -> Self {
        let verdict = &cases[0].1.verdict;
        let slots: SlotSet = cases.iter().map(|(slot, _)| *slot).collect();
        Self {
            choices: choices(verdict, &slots),
            slots: slots.to_string(),
            row: verdict.row(),
            verdict: verdict.name(),
            action: verdict.to_string(),
            why: verdict.why(),
            facts: cases.iter().take(TOLD).map(|(slot, case)| FactsDocument::of(*slot, case)).collect(),
            more: cases.len().saturating_sub(TOLD),
            left,
        }
    }

    /// A few lines.
    pub(super) fn text(&self) -> String {
        let row = self.row.map_or_else(String::new, |row| format!(" (row {row})"));
        let mut text = format!("{}{row}: {}\n  why: {}\n", named(&self.slots), self.action, self.why);
        for facts in &self.facts {
            let _ = writeln!(text, "  slot {}: {}", facts.slot, facts.text);
        }
        if self.more > 0 {
            let _ = writeln!(text, "  and {} more like these", plural(self.more, "slot"));
        }
        if let Some(left) = &self.left {
            let _ = writeln!(text, "  left: {left}");
        }
        for choice in &self.choices {
            let _ = writeln!(text, "  choice: {choice}");
        }
        text
    }
}

/// `slot 5`, `slots 5,7-9`.
pub(super) fn named(slots: &str) -> String {
    let one = slots.bytes().all(|byte| byte.is_ascii_digit());
    format!("slot{} {slots}", if one { "" } else { "s" })
}

impl FactsDocument {
    fn of(slot: Slot, case: &Case) -> Self {
        let facts = &case.facts;
        let primaries = facts.primaries.iter().map(|(node, voice)| VoiceDocument {
            node: node.to_string(),
            owner: voice.owner.map(|owner| owner.to_string()),
            migrating: voice.migrating.map(|to| to.to_string()),
            importing: voice.importing.map(|from| from.to_string()),
            keys: voice.keys,
            epoch: voice.epoch,
        });
        Self {
            slot: slot.number(),
            text: facts.to_string(),
            primaries: primaries.collect(),
            silent: facts.silent.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What a human may say where nobody else can.
fn choices(verdict: &Verdict, slots: &SlotSet) -> Vec<String> {
    let repair = format!("evenkeel repair --slots {slots}");
    match verdict {
        Verdict::Gather { ask_first: true, .. } => vec![
            format!("{repair} brings them to the slot's owner, and leaves those that the owner has with another value"),
            format!("{repair} --prefer source also drops those, and keeps what clients see now"),
            format!("{repair} --prefer target also lets those replace the owner's"),
        ],
        Verdict::Human { row: 20, .. } => {
            vec![
                "bring the node back; or give its keys up: CLUSTER FORGET of it at every other node, within a minute, and then \
                 evenkeel repair, which gives its slots to the others"
                    .to_owned(),
            ]
        }
        Verdict::Human { .. } => vec![
            "look at the keys with CLUSTER GETKEYSINSLOT at each node, and decide whose are right; evenkeel does \
             nothing here"
                .to_owned(),
        ],
        Verdict::CannotTell { .. } => vec!["bring the node back, or fail it over, first".to_owned()],
        Verdict::Sound
        | Verdict::Settle { .. }
        | Verdict::GoForward { .. }
        | Verdict::Gather { .. }
        | Verdict::Wait { .. } => Vec::new(),
    }
}
