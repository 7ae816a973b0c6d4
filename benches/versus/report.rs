//! The figures of one comparison, as a table in Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::client::Felt;
use super::load::Load;
use super::options::Options;
use super::plot::Point;
use super::spent::Spent;
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
        let what = load.describe(load.items(options.keys).len());
        let network = match options.rtt_ms {
            0.0 => "loopback".to_owned(),
            ms => format!("a round trip of {ms} ms"),
        };
        let pairs = if options.pairs { ", two primaries to two" } else { "" };
        let passes = if options.passes == 1 { String::new() } else { format!(", to and fro {} times", options.passes) };
        let clients = match options.rate {
            0 => String::new(),
            rate => format!(", beside {rate} requests a second"),
        };
        let title = format!("{}: {what}{pairs}, {network}{passes}{clients}", flavour.name());
        Self { title, tools: tools.to_vec(), runs: BTreeMap::new() }
    }

    /// What was measured, in one line.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// The title as the name of a file.
    pub(crate) fn file_name(&self) -> String {
        let words = self.title.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-").to_lowercase()
    }

    /// Each tool's time and what clients felt of it, where there were any.
    pub(crate) fn points(&self) -> Vec<Point> {
        let felt = self.tools.iter().map(|&tool| (tool, self.felt(tool)));
        let felt = felt.filter(|(_, felt)| !felt.took.is_empty());
        let point = |(tool, felt): (Tool, Felt)| Point {
            name: tool.to_string(),
            ours: matches!(tool, Tool::Evenkeel { .. }),
            seconds: median(&self.whole(tool)).as_secs_f64(),
            p99_ms: felt.quantile(0.99).as_secs_f64() * 1_000.0,
        };
        felt.map(point).collect()
    }

    /// What clients felt in all runs of a tool together.
    fn felt(&self, tool: Tool) -> Felt {
        self.runs.get(&tool).into_iter().flatten().fold(Felt::default(), |mut all, run| {
            all.add(run.felt.clone());
            all
        })
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

/// The tool that the others are compared with.
const OURS: Tool = Tool::Evenkeel { settings: "" };

impl Table {
    /// What clients felt in all runs together, where there were any.
    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = self.felt(OURS);
        if ours.took.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n| tool | requests | errors | p50, ms | p99, ms | p99.9, ms | longest, ms | p99, to evenkeel's | p99.9 |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for &tool in &self.tools {
            let felt = self.felt(tool);
            let quantiles = [0.5, 0.99, 0.999, 1.0].map(|part| felt.quantile(part));
            let [p50, p99, p999, longest] = quantiles.map(|took| format!("{:.2}", took.as_secs_f64() * 1_000.0));
            let to_ours = |part| felt.quantile(part).as_secs_f64() / ours.quantile(part).as_secs_f64();
            writeln!(
                f,
                "| {tool} | {} | {} | {p50} | {p99} | {p999} | {longest} | {:.2} × | {:.2} × |",
                thousands(felt.took.len()),
                felt.errors.len(),
                to_ours(0.99),
                to_ours(0.999),
            )?;
        }
        Ok(())
    }
}

impl Table {
    /// Whose time the processors spent, in the mean of all runs.
    fn spent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| tool | its processor time, s | the servers', s | 95 % of `MIGRATE` calls, ms | 99.9 % | what held the servers, by their own count |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for &tool in &self.tools {
            let runs = self.runs.get(&tool).map_or(&[][..], Vec::as_slice);
            let Some(count) = u32::try_from(runs.len()).ok().filter(|&count| count > 0) else { continue };
            let mut spent = Spent::default();
            for run in runs {
                spent.add(&run.spent);
            }
            let [own, servers] = [spent.tool, spent.servers].map(|time| seconds(time / count));
            let held = |part| {
                let held = spent.migrates_within(part);
                held.map_or_else(String::new, |held| format!("≤ {:.2}", held.as_secs_f64() * 1_000.0))
            };
            let (most, nearly_all) = (held(0.95), held(0.999));
            let commands = spent.commands(runs.len());
            writeln!(f, "| {tool} | {own} | {servers} | {most} | {nearly_all} | {commands} |")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        writeln!(
            f,
            "| tool | each run, s | median, s | evenkeel is faster, whole run | … moving alone | … a daemon |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let ours = [self.whole(OURS), self.moving(OURS), self.whole(Tool::Daemon)];
        for &tool in &self.tools {
            let runs = self.whole(tool);
            let [to_whole, to_moving, to_daemon] = match tool {
                Tool::Evenkeel { .. } | Tool::Daemon => Default::default(),
                Tool::RedisCli { .. } | Tool::Raw => ours.each_ref().map(|ours| ratio(&runs, ours)),
            };
            let median_of_all = seconds(median(&runs));
            writeln!(f, "| {tool} | {} | {median_of_all} | {to_whole} | {to_moving} | {to_daemon} |", each(&runs))?;
            if let Tool::Evenkeel { .. } = tool {
                let moving = self.moving(tool);
                writeln!(f, "| … of that moving | {} | {} | | | |", each(&moving), seconds(median(&moving)))?;
            }
        }
        self.latencies(f)?;
        self.spent(f)
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

/// Empty where there is nothing to compare with.
fn ratio(of: &[Duration], to: &[Duration]) -> String {
    if to.is_empty() {
        return String::new();
    }
    format!("{:.1} ×", median(of).as_secs_f64() / median(to).as_secs_f64())
}

fn each(durations: &[Duration]) -> String {
    durations.iter().map(|&took| seconds(took)).collect::<Vec<_>>().join(", ")
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    grouped.join(",")
}
