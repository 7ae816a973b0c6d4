//! The figures of one comparison, as a table in Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::load::Load;
use super::options::Options;
use super::support::Flavour;
use super::tool::{Run, Tool};

/// What each tool took, in the order of the rounds.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    tools: Vec<Tool>,
    runs: BTreeMap<Tool, Vec<Run>>,
}

impl Table {
    /// A table without figures.
    pub(crate) fn new(flavour: Flavour, load: Load, options: &Options, tools: &[Tool]) -> Self {
        let what = match load {
            Load::Empty => "4,096 empty slots".to_owned(),
            Load::Small => format!("4,096 slots of a cluster of {} keys of 64 bytes", thousands(options.keys)),
        };
        let network = match options.rtt_ms {
            0.0 => "loopback".to_owned(),
            ms => format!("a round trip of {ms} ms"),
        };
        let title = format!("{}: {what}, {network}", flavour.name());
        Self { title, tools: tools.to_vec(), runs: BTreeMap::new() }
    }

    /// Adds one run.
    pub(crate) fn add(&mut self, tool: Tool, run: Run) {
        self.runs.entry(tool).or_default().push(run);
    }

    fn whole(&self, tool: Tool) -> Vec<Duration> {
        self.runs.get(&tool).into_iter().flatten().map(|run| run.whole).collect()
    }

    fn moving(&self, tool: Tool) -> Vec<Duration> {
        self.runs.get(&tool).into_iter().flatten().filter_map(|run| run.moving).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        writeln!(f, "| tool | each run, s | median, s | evenkeel is faster, whole run | … moving alone |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        let [whole, moving] = [self.whole(Tool::Evenkeel), self.moving(Tool::Evenkeel)];
        for &tool in &self.tools {
            let runs = self.whole(tool);
            let [to_whole, to_moving] = match tool {
                Tool::Evenkeel => [String::new(), String::new()],
                Tool::RedisCli { .. } => [ratio(&runs, &whole), ratio(&runs, &moving)],
            };
            writeln!(f, "| {tool} | {} | {} | {to_whole} | {to_moving} |", each(&runs), seconds(median(&runs)))?;
            if tool == Tool::Evenkeel {
                writeln!(f, "| … of that moving | {} | {} | | |", each(&moving), seconds(median(&moving)))?;
            }
        }
        Ok(())
    }
}

/// Of an even number the mean of the two in the middle; zero of none.
fn median(of: &[Duration]) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (_, None) => Duration::ZERO,
        (0, Some(&above)) => (sorted[middle - 1] + above) / 2,
        (_, Some(&middle)) => middle,
    }
}

fn ratio(of: &[Duration], to: &[Duration]) -> String {
    format!("{:.1} ×", median(of).as_secs_f64() / median(to).as_secs_f64())
}

fn each(durations: &[Duration]) -> String {
    durations.iter().map(|&took| seconds(took)).collect::<Vec<_>>().join(", ")
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

/// `1234567` as `1,234,567`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    grouped.join(",")
}
