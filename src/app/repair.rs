//! `evenkeel repair`: what a check finds is put right, as far as no human must decide.

use std::fmt::Write;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::cases::{CaseDocument, cases, named};
use super::engine::heed_signals;
use super::legend::legend;
use super::output::{out, outln};
use super::{instance, logging};
use crate::cli::{ExitStatus, Keep, RepairArgs};
use crate::cluster::Unclear;
use crate::config::{LogLevel, Mode};
use crate::daemon::{self, Done, Outcome, Prefer, Wishes};
use crate::migration::Verdict;
use crate::wording::plural;

/// `evenkeel repair`.
pub(super) async fn repair(args: &RepairArgs) -> anyhow::Result<ExitStatus> {
    let mut config = args.cluster.config()?;
    if config.log.level > LogLevel::Warn {
        config.log.level = LogLevel::Warn;
    }
    logging::init(&config.log);
    // Whatever a file says: for the time of this command its lease is wanted.
    config.schedule.mode = Mode::Act;
    let prefer = args.prefer.map(|keep| match keep {
        Keep::Source => Prefer::Source,
        Keep::Target => Prefer::Target,
    });
    let wishes = Wishes { slots: args.slots.clone(), prefer, dry_run: args.dry_run };
    let leave = CancellationToken::new();
    tokio::spawn(heed_signals(leave.clone(), CancellationToken::new()));
    let outcome = Box::pin(daemon::repair(&config, &wishes, &instance(), leave)).await?;
    let document = Document::of(&outcome, args.dry_run);
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let text = document.text();
        out!("{text}{}", legend(&text, &outcome.after.topology));
    }
    Ok(document.result)
}

/// What a repair did and left.
#[derive(Serialize)]
struct Document {
    dry_run: bool,
    interrupted: bool,
    /// What was done.
    repaired: Vec<DoneDocument>,
    /// What is not as it should be.
    left: Vec<CaseDocument>,
    /// Nodes with keys that they do not show, and how many (Redis 8.4 and newer).
    hidden: Vec<HiddenDocument>,
    exit_status: u8,
    #[serde(skip)]
    result: ExitStatus,
}

#[derive(Serialize)]
struct HiddenDocument {
    node: String,
    keys: u64,
}

#[derive(Serialize)]
struct DoneDocument {
    slots: String,
    row: Option<u8>,
    verdict: &'static str,
    action: String,
    why: &'static str,
    keys: u64,
}

impl Document {
    fn of(outcome: &Outcome, dry_run: bool) -> Self {
        let left = |slot| outcome.left.get(&slot).map(ToString::to_string);
        let result = result(outcome);
        let hidden = outcome.after.hidden.iter().map(|(node, &keys)| HiddenDocument { node: node.to_string(), keys });
        Self {
            dry_run,
            interrupted: outcome.interrupted,
            repaired: outcome.done.iter().map(DoneDocument::of).collect(),
            left: cases(&outcome.after, left),
            hidden: hidden.collect(),
            exit_status: result.code(),
            result,
        }
    }

    fn text(&self) -> String {
        let mut text: String = self.repaired.iter().map(DoneDocument::text).collect();
        if !self.left.is_empty() {
            text.push_str(if self.dry_run { "would be done:\n" } else { "left:\n" });
            text.extend(self.left.iter().map(CaseDocument::text));
        }
        for HiddenDocument { node, keys } in &self.hidden {
            let _ = writeln!(
                text,
                "{node} holds {} of slots that it neither owns nor takes in, and hides them; \
                 --slots 0-16383 finds them and brings them to the slots' owners",
                plural(*keys, "key")
            );
        }
        if self.interrupted {
            text.push_str("interrupted; the next repair goes on from here\n");
        }
        if text.is_empty() {
            text.push_str("nothing to repair\n");
        } else if self.left.is_empty() && self.hidden.is_empty() {
            text.push_str("nothing is left to repair\n");
        }
        text
    }
}

impl DoneDocument {
    fn of(done: &Done) -> Self {
        Self {
            slots: done.slots.to_string(),
            row: done.verdict.row(),
            verdict: done.verdict.name(),
            action: done.verdict.to_string(),
            why: done.verdict.why(),
            keys: done.keys,
        }
    }

    fn text(&self) -> String {
        let row = self.row.map_or_else(String::new, |row| format!(" (row {row})"));
        let keys = plural(self.keys, "key");
        format!("repaired {}{row}: {}; {keys} dealt with\n  why: {}\n", named(&self.slots), self.action, self.why)
    }
}

/// The exit status that the end amounts to.
fn result(outcome: &Outcome) -> ExitStatus {
    let after = &outcome.after;
    let cannot_tell = after.cases.values().any(|case| matches!(case.verdict, Verdict::CannotTell { .. }));
    if cannot_tell || !after.uncounted.is_empty() || after.topology.unclear.iter().any(Unclear::hides_something) {
        ExitStatus::Failed
    } else if after.cases.is_empty() && after.hidden.is_empty() && !outcome.interrupted {
        ExitStatus::Done
    } else {
        ExitStatus::Left
    }
}
