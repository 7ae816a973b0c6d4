//! What the documentation says of other people's programs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::Flavour;

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
