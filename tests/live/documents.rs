//! What is written for people, where that needs the real programs: redis-cli's options, the manual, completions.

use std::fs;
use std::path::Path;
use std::process::Command;

use evenkeel::cli::Cli;

use crate::support::{Evenkeel, Flavour, directory};

#[test]
fn every_option_of_redis_cli_has_its_counterpart_named() {
    let cli = Flavour::Redis70.server().with_file_name("redis-cli");
    let output = Command::new(cli).args(["--cluster", "help"]).output().expect("redis-cli can be run");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrating-from-redis-cli.md");
    let document = fs::read_to_string(file).expect("it is there");
    let options: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--cluster-")).collect();
    let commands = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> =
        commands.filter(|word| !word.is_empty() && !word.starts_with('-') && *word != "help").collect();
    assert!(options.len() > 15 && commands.len() > 10, "{help}");
    let absent: Vec<_> =
        options.iter().chain(&commands).filter(|word| !document.contains(&format!("`{word}`"))).collect();
    assert!(absent.is_empty(), "{absent:?}");
}

#[test]
fn the_manual_has_a_page_for_every_command_and_shells_complete_them() {
    let pages = directory("manual");
    let place = pages.path().display().to_string();
    Evenkeel::new(&["man", &place]).run_to_end().assert(0, &["evenkeel.1 and a page for each command are in"]);
    let definition = Cli::definition();
    let commands: Vec<&str> = definition.get_subcommands().map(clap::Command::get_name).collect();
    for command in &commands {
        let page = fs::read_to_string(pages.path().join(format!("evenkeel-{command}.1"))).expect("it has a page");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    Evenkeel::new(&["man", &format!("{place}/absent")]).run_to_end().assert(1, &["absent: it must be a directory"]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Evenkeel::new(&["completions", shell]).run_to_end();
        output.assert(0, &[]);
        let absent: Vec<_> = commands.iter().filter(|command| !output.stdout.contains(**command)).collect();
        assert!(absent.is_empty(), "{shell} is not told of {absent:?}");
    }
}
