//! What the documentation says, against the code: names, defaults, ranges and commands, in both directions.
//!
//! `docs/metrics.md` has its test beside the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use evenkeel::cli::{Cli, ExitStatus};
use evenkeel::cluster::Finding;
use evenkeel::config::{Config, ConfigError, KubernetesLease, Mode, Problem};
use evenkeel::daemon::Reason;
use evenkeel::migration::Trouble;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn document(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rows of the tables below a heading, up to the next heading of its rank: cells without their backticks.
fn rows(file: &str, heading: &str) -> Vec<Vec<String>> {
    let text = document(file);
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{file} has no {heading}"));
    let rank = format!("\n{} ", heading.split(' ').next().unwrap());
    let section = below.split_once(&rank).map_or(below, |(section, _)| section);
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut header = true;
    for line in section.lines() {
        match (line.starts_with("| "), line.starts_with("|-")) {
            (true, _) if !header => rows.push(cells(line)),
            (_, true) => header = false,
            (false, false) => header = true,
            (true, false) => {}
        }
    }
    assert!(!rows.is_empty(), "{file} has no table below {heading}");
    rows
}

/// The first cells, each of which must be there once.
pub(crate) fn first_cells(file: &str, heading: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for row in rows(file, heading) {
        assert!(names.insert(row[0].clone()), "{file} has `{}` twice below {heading}", row[0]);
    }
    names
}

pub(crate) fn check_names<'n>(file: &str, heading: &str, names: impl IntoIterator<Item = &'n str>) {
    let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
    let told = first_cells(file, heading);
    let absent: Vec<_> = names.difference(&told).collect();
    let invented: Vec<_> = told.difference(&names).collect();
    assert!(absent.is_empty() && invented.is_empty(), "{file}: lacks {absent:?}, invents {invented:?}");
}

#[test]
fn operators_are_told_of_every_reason_and_of_no_other() {
    check_names("docs/operating.md", "## Reasons", Reason::names());
}

#[test]
fn operators_are_told_of_every_finding_and_of_no_other() {
    check_names("docs/operating.md", "## Findings", Finding::NAMES);
}

#[test]
fn operators_are_told_of_every_trouble_and_of_no_other() {
    check_names("docs/operating.md", "## Troubles of a move", Trouble::NAMES);
}

#[test]
fn the_readme_lists_every_command_and_no_other() {
    let definition = Cli::definition();
    let mut commands = Vec::new();
    for command in definition.get_subcommands() {
        let inner: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        let name = command.get_name();
        commands.extend(inner.iter().map(|inner| format!("evenkeel {name} {inner}")));
        if inner.is_empty() {
            commands.push(format!("evenkeel {name}"));
        }
    }
    check_names("README.md", "## Commands", commands.iter().map(String::as_str));
}

#[test]
fn the_readme_lists_every_exit_status_and_no_other() {
    let statuses = [ExitStatus::Done, ExitStatus::Left, ExitStatus::Failed, ExitStatus::Usage];
    let codes: Vec<String> = statuses.iter().map(|status| status.code().to_string()).collect();
    check_names("README.md", "## Exit statuses", codes.iter().map(String::as_str));
}

/// A file with one key that is not there, so that the fault lists those that are.
fn keys_of(table: &str) -> Vec<String> {
    let (text, path) = match table {
        "targets.nodes" => ("[[targets.nodes]]\nnode = 'a:1'\nzzzzzzzzzzzz = 1".to_owned(), "targets.nodes."),
        _ => (format!("[{table}]\nzzzzzzzzzzzz = 1"), &*format!("{table}.")),
    };
    let faults = Config::parse(&text, "x.toml").expect_err("the key is unknown");
    let known = faults.into_iter().find_map(|fault| match fault.problem {
        Problem::UnknownKey { known, .. } => Some(known),
        Problem::NotToml(_)
        | Problem::Password
        | Problem::Missing { .. }
        | Problem::NotAllowed { .. }
        | Problem::Conflict(_) => None,
    });
    known.expect("the fault lists the keys").into_iter().map(|key| format!("{path}{key}")).collect()
}

/// The tables of the file, and the keys that are tables themselves.
const TABLES: [&str; 13] = [
    "cluster",
    "cluster.tls",
    "targets",
    "targets.nodes",
    "migration",
    "schedule",
    "state",
    "lease",
    "lease.tls",
    "lease.kubernetes",
    "http",
    "http.tls",
    "log",
];

/// What the validator allows for a key, in its own words: no key takes -1.
fn allowed(key: &str) -> String {
    let (text, path) = match key.strip_prefix("targets.nodes.") {
        Some("node") => ("[[targets.nodes]]\nnode = -1".to_owned(), "targets.nodes[0].node".to_owned()),
        Some(inner) => {
            let text = format!("[[targets.nodes]]\nnode = 'a:1'\n{inner} = -1");
            (text, format!("targets.nodes[0].{inner}"))
        }
        None => (format!("{key} = -1"), key.to_owned()),
    };
    let faults = Config::parse(&text, "x.toml").expect_err("-1 is not allowed");
    let said = faults.iter().filter(|fault| fault.key == path).find_map(|fault| match &fault.problem {
        Problem::NotAllowed { allowed, .. } => Some(allowed.clone()),
        Problem::UnknownKey { .. }
        | Problem::NotToml(_)
        | Problem::Password
        | Problem::Missing { .. }
        | Problem::Conflict(_) => None,
    });
    said.unwrap_or_else(|| panic!("{key}: {faults:?}"))
}

#[test]
fn every_key_is_documented_with_its_default_and_what_is_allowed() {
    let mut keys: BTreeSet<String> = TABLES.iter().flat_map(|table| keys_of(table)).collect();
    keys.retain(|key| !TABLES.contains(&key.as_str()));
    check_names("docs/configuration.md", "## Keys", keys.iter().map(String::as_str));

    let default = Config::from_seeds(vec!["10.0.0.1:6379".parse().unwrap()]);
    let defaults: BTreeMap<&str, String> = default.entries().into_iter().collect();
    for row in rows("docs/configuration.md", "## Keys") {
        let [key, default, says, _] = &row[..] else { panic!("a row of four cells: {row:?}") };
        let real = defaults.get(key.as_str()).map_or("unset", |value| value.as_str());
        let real = if key == "cluster.seeds" { "needed" } else { real };
        assert_eq!((default.as_str(), says), (real, &allowed(key)), "the row of {key}");
    }
    let absent: Vec<_> = defaults.keys().filter(|key| !keys.contains(**key) && **key != "targets.nodes").collect();
    assert!(absent.is_empty(), "keys of the configuration that no file can set: {absent:?}");
}

/// Every key with another value than its default, but for those of the lease's other home.
const ALL_CHANGED: &str = r#"
[cluster]
name = "x"
seeds = ["b:1"]
username = "x"
password_file = "x"
migrate_username = "x"
migrate_password_file = "x"
address_map = { "a:1" = "b:1" }
tls = { ca_file = "x", cert_file = "x", key_file = "x", server_name = "x" }
[targets]
threshold_percent = 3
threshold_slots = 3
default_weight = 3
nodes = [{ node = "x", weight = 3 }]
[migration]
block_max = "3ms"
latency_max = "3ms"
slots_per_second = 3
keys_per_second = 3
bytes_per_second = 3
migrate_timeout = "3s"
call_timeout = "3s"
connect_timeout = "3s"
parallel = 3
per_target = 3
group_slots = 3
group_keys = 3
batch_keys_max = 3
attempts = 3
retry_delay = "3s"
retry_delay_max = "3s"
memory_limit_percent = 3
full_target = "evict"
functions = "copy"
big_keys = "move"
big_key_block_max = "3ms"
big_key_window = "02:00-04:00 Europe/Berlin"
[schedule]
mode = "observe"
poll = "3s"
settle = 3
stop_grace = "3s"
adopt_after = "3s"
foreign_quiet = "3s"
windows = ["02:00-04:00 Europe/Berlin"]
approval = "manual"
[state]
dir = "x"
[lease]
address = "c:1"
key = "x"
ttl = "33s"
username = "x"
password_file = "x"
tls = { ca_file = "x", cert_file = "x", key_file = "x", server_name = "x" }
[http]
token_file = "/etc/evenkeel/token"
listen = "127.0.0.1:3"
reads = "token"
tls = { cert_file = "x", key_file = "x" }
[log]
level = "debug"
format = "json"
"#;

#[test]
fn the_keys_that_need_a_restart_are_marked() {
    let default = Config::from_seeds(vec!["a:1".parse().unwrap()]);
    let mut changed = Config::parse(ALL_CHANGED, "x.toml").expect("nothing is wrong with it");
    // No file may have both homes of the lease, and not every build takes this one.
    changed.lease.kubernetes = Some(KubernetesLease { name: "x".to_owned(), namespace: Some("x".to_owned()) });
    for ((key, old), (_, new)) in default.entries().into_iter().zip(changed.entries()) {
        assert_ne!(old, new, "{key} is to differ in this test");
    }
    let refused = default.reload(&changed).expect_err("some keys need a restart");
    let refused: BTreeSet<String> = refused.changes.iter().map(|change| change.key.to_owned()).collect();
    let marked = rows("docs/configuration.md", "## Keys").into_iter().filter(|row| row[3].ends_with("Restart."));
    assert_eq!(marked.map(|row| row[0].clone()).collect::<BTreeSet<_>>(), refused);
}

/// What stands in a fenced block that is marked with this word, each block by itself.
fn fenced(file: &str, word: &str) -> Vec<String> {
    let text = document(file);
    let opening = format!("```{word}\n");
    let blocks = text.split(&opening).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The files that `deploy/` ships, the one within the `ConfigMap` included. Not the chart's: `./test helm` renders and
/// checks that.
fn shipped() -> Vec<(String, String)> {
    let of_kubernetes = "deploy/kubernetes/configmap.yaml";
    let map = document(of_kubernetes);
    let (_, block) = map.split_once("  evenkeel.toml: |\n").expect("the map has the file");
    let text = block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n").collect();
    let files = ["deploy/evenkeel.toml", "deploy/compose/evenkeel/evenkeel.toml"];
    let mut texts = Vec::from(files.map(|file| (file.to_owned(), document(file))));
    texts.push((of_kubernetes.to_owned(), text));
    texts
}

#[test]
fn what_is_shipped_runs_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("deploy/kubernetes/deployment.yaml", format!("image: evenkeel:{version}\n")),
        ("deploy/helm/evenkeel/Chart.yaml", format!("appVersion: {version}\n")),
    ] {
        assert!(document(file).contains(&line), "{file} is to have {line}");
    }
}

#[test]
fn what_is_shipped_moves_nothing_before_somebody_says_so() {
    for (file, text) in shipped() {
        let config = Config::parse(&text, &file).expect("it is in order");
        assert_eq!(config.schedule.mode, Mode::Observe, "{file}");
    }
}

#[test]
fn configurations_that_are_shown_or_shipped_are_in_order() {
    let mut texts = shipped();
    for file in documents() {
        texts.extend(fenced(&file, "toml").into_iter().map(|text| (file.clone(), text)));
    }
    assert!(texts.len() > 1, "the README shows one too");
    for (file, text) in texts {
        if let Err(faults) = Config::parse(&text, &file) {
            panic!("{}", ConfigError::Faults { path: PathBuf::from(&file), faults });
        }
    }
}

/// The Markdown files of the project, by their path.
fn documents() -> Vec<String> {
    let mut files = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for dir in ["docs", "docs/adr", "deploy"] {
        for entry in fs::read_dir(root().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    files
}

#[test]
fn links_lead_to_files_that_are_there() {
    for file in documents() {
        let text = document(&file);
        let base = root().join(&file).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let path = link.split('#').next().unwrap();
            assert!(base.join(path).exists(), "{file}: {link}");
        }
    }
}

/// Every Rust file of the project, as one text.
fn all_code() -> String {
    fn walk(dir: &Path, into: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    walk(&root().join("src"), &mut text);
    walk(&root().join("tests"), &mut text);
    text
}

#[test]
fn tests_that_are_said_to_hold_an_invariant_exist() {
    let code = all_code();
    let mut named = 0;
    for row in rows("docs/architecture.md", "## Invariants") {
        for test in row[3].split(", ").filter(|test| *test != "none") {
            assert!(code.contains(&format!("fn {test}(")), "docs/architecture.md names the test {test}");
            named += 1;
        }
    }
    assert!(named > 10, "{named} tests are named");
}

#[test]
fn series_that_are_named_anywhere_are_in_the_list_of_metrics() {
    let metrics = document("docs/metrics.md");
    for file in documents() {
        let text = document(&file);
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let series = text.split(|c| !is_name(c)).filter(|word| word.starts_with("evenkeel_"));
        for name in series {
            assert!(metrics.contains(name), "{file}: {name}");
        }
    }
}
