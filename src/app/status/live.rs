//! The work of a running daemon on a terminal, as it goes on: a bar for the whole, for each node and for each move.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::remote::{Answer, Remote};
use super::{pace, rates, short};
use crate::http::json::{PlanDocument, RunningMove, StatusDocument, TopologyDocument};

/// How often the daemon is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Bars of nodes at the most: a terminal has no more lines, and draws none of what does not fit.
const NODES_MAX: usize = 24;

/// Shows the progress until no slot is moved any more.
pub(super) async fn follow(remote: &Remote) -> anyhow::Result<()> {
    let mut bars = Bars::new();
    loop {
        let status: StatusDocument = remote.get("/api/v1/status").await?.document()?;
        if !status.work.active {
            return Ok(());
        }
        let topology = remote.get("/api/v1/topology").await?;
        let plan = remote.get("/api/v1/plan").await?;
        if let (Answer::Document(topology), Answer::Document(plan)) = (topology, plan) {
            bars.show_nodes(&topology, &plan);
        }
        bars.show_work(&status);
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// What is drawn; cleared when dropped.
struct Bars {
    all: MultiProgress,
    work: ProgressBar,
    nodes: BTreeMap<String, ProgressBar>,
    moves: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let work = all.add(bar("all"));
        Self { all, work, nodes: BTreeMap::new(), moves: BTreeMap::new() }
    }

    fn show_work(&mut self, status: &StatusDocument) {
        let work = &status.work;
        self.work.set_length(work.slots_planned as u64);
        self.work.set_position(work.slots_moved as u64);
        self.work.set_message(format!("{} of {} slots  {}", work.slots_moved, work.slots_planned, rates(work)));
        let name = |running: &RunningMove| format!("{} -> {}", short(&running.source), short(&running.target));
        keep(&self.all, &mut self.moves, |key| status.moves.iter().any(|running| name(running) == key));
        for running in &status.moves {
            let row = row(&self.all, &mut self.moves, name(running));
            row.set_length(running.slots.count as u64);
            row.set_position(running.slots_moved as u64);
            let waits = running.waits_for.as_ref().map_or_else(|| pace(&running.pace), |why| format!("; waits: {why}"));
            let (moved, of, keys) = (running.slots_moved, running.slots.count, running.keys_moved);
            row.set_message(format!("{moved} of {of} slots, {keys} keys{waits}"));
        }
    }

    /// What each node holds, against what it should hold; all bars are as long as the fullest node is.
    fn show_nodes(&mut self, topology: &TopologyDocument, plan: &PlanDocument) {
        let held = |node: &str| {
            let shard = topology.shards.iter().find(|shard| shard.primary.id == node);
            shard.map_or(0, |shard| shard.slots.count as u64)
        };
        let shown = || plan.nodes.iter().take(NODES_MAX);
        let name = |node: &str, address: &Option<String>| address.clone().unwrap_or_else(|| short(node).to_owned());
        let most = shown().map(|line| held(&line.node).max(line.target.into())).max().unwrap_or_default();
        keep(&self.all, &mut self.nodes, |key| shown().any(|line| name(&line.node, &line.address) == key));
        for line in shown() {
            let row = row(&self.all, &mut self.nodes, name(&line.node, &line.address));
            row.set_length(most);
            row.set_position(held(&line.node));
            row.set_message(format!("{} of {}", held(&line.node), line.target));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // A terminal that is gone cannot be cleared.
        let _ = self.all.clear();
    }
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    match ProgressStyle::with_template("{prefix:24} {bar:32} {wide_msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The bar of this name, which is made where there is none.
fn row<'a>(all: &MultiProgress, bars: &'a mut BTreeMap<String, ProgressBar>, name: String) -> &'a ProgressBar {
    bars.entry(name).or_insert_with_key(|name| all.add(bar(name)))
}

/// Takes away the bars that are not to be kept.
fn keep(all: &MultiProgress, bars: &mut BTreeMap<String, ProgressBar>, is_kept: impl Fn(&str) -> bool) {
    bars.retain(|name, bar| {
        let kept = is_kept(name);
        if !kept {
            all.remove(bar);
        }
        kept
    });
}
