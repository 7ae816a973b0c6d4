//! The page of figures, `docs/benchmarks.md`: each table is a section of it, and replaces the one of the same title.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What opens a section of figures.
const SECTION: &str = "### ";

/// Puts a section, which begins with its title, into the page. Panics when it cannot be written.
pub(crate) fn put(page: &Path, title: &str, section: &str) {
    let before = fs::read_to_string(page).expect("the page of figures");
    fs::write(page, with_section(&before, title, section)).expect("the page of figures can be written");
}

/// The page with this section in the place of the one of that title, or at its end.
fn with_section(page: &str, title: &str, section: &str) -> String {
    let head = format!("{SECTION}{title}\n");
    let Some(at) = page.find(&head) else { return format!("{}\n\n{section}", page.trim_end()) };
    let (before, rest) = page.split_at(at);
    let after = rest[head.len()..].find(&format!("\n{SECTION}")).map_or("", |end| &rest[head.len() + end + 1..]);
    let gap = if after.is_empty() { "" } else { "\n" };
    format!("{before}{section}{gap}{after}")
}

/// When, of what, where and beside what else the figures were measured.
pub(crate) fn circumstances(rounds: u32) -> String {
    let commit = output("git", &["describe", "--always", "--dirty", "--exclude", "*"]);
    let date = output("date", &["--utc", "+%-d %B %Y"]);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{date}, evenkeel {commit}, rounds: {rounds}; {count} processors ({model}), load average {load} before the first run."
    )
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
