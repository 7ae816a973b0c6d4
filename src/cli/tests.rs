//! Stories of command lines: what they amount to, and how a wrong one ends.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

mod help;

use expect_test::{Expect, expect};

use super::*;
use crate::cluster::Address;
use crate::config::Config;

/// What a command line amounts to: the keys that differ from the defaults of a cluster at `a:1`, or how it ends.
fn said(line: &str) -> String {
    let cli = match Cli::try_parse_from(line.split_whitespace()) {
        Ok(cli) => cli,
        Err(error) => return format!("exit {}: {}", exit_status(&error).code(), error.render()),
    };
    let config = match cli.command {
        Command::Run(args) => args.config(),
        Command::Plan(args) | Command::Rebalance(args) => args.config(),
        Command::Move(args) => args.cluster.config(),
        Command::Check(args) => args.cluster.config(),
        Command::Repair(args) => args.cluster.config(),
        Command::Status(args) => return format!("{args:?}\n"),
        Command::Retry(args) => return format!("{args:?}\n"),
        Command::Pause(args) => return format!("{args:?}\n"),
        Command::Resume(args) => return format!("{args:?}\n"),
        Command::Drain(args) | Command::Undrain(args) => return format!("{args:?}\n"),
        Command::Approve(args) => return format!("{args:?}\n"),
        Command::Config(args) => return format!("{args:?}\n"),
        Command::Completions { shell } => return format!("{shell:?}\n"),
        Command::Man { directory } => return format!("{directory:?}\n"),
        Command::Demo(args) => return format!("{args:?}\n"),
    };
    let default = Config::from_seeds(vec![Address::new("a", 1)]).entries();
    match config {
        Ok(config) => {
            let pairs = config.entries().into_iter().zip(default).filter(|(new, old)| new != old);
            pairs.flat_map(|((key, value), _)| [key, ": ", &value, "\n"].map(str::to_owned)).collect()
        }
        Err(error) => format!("{error}\n"),
    }
}

fn check(line: &str, expect: Expect) {
    expect.assert_eq(&said(line));
}

/// A file in a directory of its own.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evenkeel.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

#[test]
fn the_definition_is_sound() {
    Cli::definition().debug_assert();
}

#[test]
fn seeds_alone_are_enough() {
    check("evenkeel rebalance --seed a:1", expect![[""]]);
    check(
        "evenkeel plan --seed b:1 --seed [::1]:7000",
        expect![[r#"
            cluster.seeds: [b:1, [::1]:7000]
        "#]],
    );
    check(
        "evenkeel check --json --seed b:1",
        expect![[r#"
            cluster.seeds: [b:1]
        "#]],
    );
    check("evenkeel move --seed a:1 --slots 866,900-910 --to b:1", expect![[""]]);
    check("evenkeel repair --seed a:1 --dry-run --slots 866,900-910 --prefer source", expect![[""]]);
    check(
        "evenkeel repair --seed a:1 --prefer source",
        expect![[r#"
            exit 64: error: the following required arguments were not provided:
              --slots <SLOTS>

            Usage: evenkeel repair --slots <SLOTS> --prefer <source|target> <--config <FILE>|--seed <HOST:PORT>>

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel repair --seed a:1 --slots 5 --prefer newest",
        expect![[r#"
            exit 64: error: invalid value 'newest' for '--prefer <source|target>'
              [possible values: source, target]

            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn options_become_configuration() {
    check(
        "evenkeel run --seed a:1 --username me --password-file /p --tls-ca /ca --tls-cert /c --tls-key /k \
         --tls-server-name redis.local --weight b:1=2 --weight [::1]:1=0.5 --drain c:1 --threshold 5 --observe \
         --listen 0.0.0.0:80",
        expect![[r#"
            cluster.username: me
            cluster.password_file: /p
            cluster.tls.ca_file: /ca
            cluster.tls.cert_file: /c
            cluster.tls.key_file: /k
            cluster.tls.server_name: redis.local
            targets.threshold_percent: 5
            targets.nodes: [{ node = "b:1", weight = 2 }, { node = "[::1]:1", weight = 0.5 }, { node = "c:1", drain = true }]
            schedule.mode: observe
            http.listen: 0.0.0.0:80
        "#]],
    );
}

#[test]
fn options_go_before_what_the_file_says() {
    let (_dir, path) = file(
        "[cluster]\nseeds = ['a:1']\nusername = 'file'\npassword_file = '/file'\n\
         tls = { ca_file = '/ca', cert_file = '/cert', key_file = '/key' }\n\
         [[targets.nodes]]\nnode = 'n1'\ndrain = true\n[[targets.nodes]]\nnode = 'n2'\nslots = '1'\n",
    );
    check(
        &format!("evenkeel run --config {path}"),
        expect![[r#"
            cluster.username: file
            cluster.password_file: /file
            cluster.tls.ca_file: /ca
            cluster.tls.cert_file: /cert
            cluster.tls.key_file: /key
            targets.nodes: [{ node = "n1", drain = true }, { node = "n2", slots = "1" }]
        "#]],
    );
    check(
        &format!("evenkeel run --config {path} --username me --tls-ca /other --weight n1=2 --weight n2=3"),
        expect![[r#"
            cluster.username: me
            cluster.password_file: /file
            cluster.tls.ca_file: /other
            targets.nodes: [{ node = "n1", weight = 2 }, { node = "n2", weight = 3, slots = "1" }]
        "#]],
    );
}

#[test]
fn bad_usage_exits_with_64() {
    check(
        "evenkeel plan",
        expect![[r#"
            exit 64: error: the following required arguments were not provided:
              <--config <FILE>|--seed <HOST:PORT>>

            Usage: evenkeel plan <--config <FILE>|--seed <HOST:PORT>>

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --config f",
        expect![[r#"
            exit 64: error: the argument '--seed <HOST:PORT>' cannot be used with '--config <FILE>'

            Usage: evenkeel plan <--config <FILE>|--seed <HOST:PORT>>

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed redis",
        expect![[r#"
            exit 64: error: invalid value 'redis' for '--seed <HOST:PORT>': an address is host:port, as in 10.0.0.1:6379

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --weight b:1",
        expect![[r#"
            exit 64: error: invalid value 'b:1' for '--weight <NODE=W>': a weight is NODE=W, as in 10.0.0.7:6379=2

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --weight b:1=nan",
        expect![[r#"
            exit 64: error: invalid value 'b:1=nan' for '--weight <NODE=W>': not a number from 0 to 1000000

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --weight =2",
        expect![[r#"
            exit 64: error: invalid value '=2' for '--weight <NODE=W>': no node stands before the `=`

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --threshold 101",
        expect![[r#"
            exit 64: error: invalid value '101' for '--threshold <PERCENT>': not a number from 0 to 100

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --tls-cert c",
        expect![[r#"
            exit 64: error: the following required arguments were not provided:
              --tls-ca <FILE>
              --tls-key <FILE>

            Usage: evenkeel plan --tls-ca <FILE> --tls-cert <FILE> --tls-key <FILE> <--config <FILE>|--seed <HOST:PORT>>

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --password hunter2",
        expect![[r#"
            exit 64: error: unexpected argument '--password' found

              tip: a similar argument exists: '--password-file'

            Usage: evenkeel plan --password-file <FILE> <--config <FILE>|--seed <HOST:PORT>>

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel move --seed a:1 --slots 16384 --to b",
        expect![[r#"
            exit 64: error: invalid value '16384' for '--slots <SLOTS>': `16384` is not a slot: slots are the numbers 0 to 16383

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel balance",
        expect![[r#"
            exit 64: error: unrecognized subcommand 'balance'

              tip: a similar subcommand exists: 'rebalance'

            Usage: evenkeel <COMMAND>

            For more information, try '--help'.
        "#]],
    );
    check(
        "evenkeel demo --keys 0",
        expect![[r#"
            exit 64: error: invalid value '0' for '--keys <N>': 0 is not in 1..=10000000

            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn a_call_without_a_command_is_bad_usage_and_a_call_for_help_is_not() {
    assert!(said("evenkeel").starts_with("exit 64:"));
    assert!(said("evenkeel --help").starts_with("exit 0:"));
    assert!(said("evenkeel --version").starts_with("exit 0: evenkeel "));
}

#[test]
fn two_options_that_contradict_each_other_are_bad_usage() {
    check(
        "evenkeel plan --seed a:1 --weight b:1=2 --drain b:1",
        expect![[r#"
            --weight and --drain name `b:1` twice: give one of them for a node, once
        "#]],
    );
    check(
        "evenkeel plan --seed a:1 --weight b:1=2 --weight b:1=3",
        expect![[r#"
            --weight and --drain name `b:1` twice: give one of them for a node, once
        "#]],
    );
}

#[test]
fn what_is_written_of_the_command_line_itself_needs_a_shell_or_a_directory() {
    check(
        "evenkeel completions zsh",
        expect![[r#"
        Zsh
    "#]],
    );
    check(
        "evenkeel completions tcsh",
        expect![[r#"
        exit 64: error: invalid value 'tcsh' for '<SHELL>'
          [possible values: bash, elvish, fish, powershell, zsh]

          tip: a similar value exists: 'zsh'

        For more information, try '--help'.
    "#]],
    );
    check(
        "evenkeel man /usr/local/share/man/man1",
        expect![[r#"
        "/usr/local/share/man/man1"
    "#]],
    );
    check(
        "evenkeel man",
        expect![[r#"
        exit 64: error: the following required arguments were not provided:
          <DIRECTORY>

        Usage: evenkeel man <DIRECTORY>

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn a_daemon_is_told_of_a_node_or_a_plan_by_name() {
    check(
        "evenkeel drain 10.0.0.7:6379",
        expect![[r#"
        DrainArgs { node: "10.0.0.7:6379", daemon: DaemonArgs { url: "http://127.0.0.1:7380", ca_file: None, token_file: None } }
    "#]],
    );
    check(
        "evenkeel undrain",
        expect![[r#"
        exit 64: error: the following required arguments were not provided:
          <NODE>

        Usage: evenkeel undrain <NODE>

        For more information, try '--help'.
    "#]],
    );
    check(
        "evenkeel approve 0123456789ab",
        expect![[r#"
        ApproveArgs { hash: "0123456789ab", daemon: DaemonArgs { url: "http://127.0.0.1:7380", ca_file: None, token_file: None } }
    "#]],
    );
}

#[test]
fn commands_without_a_cluster_need_none() {
    check(
        "evenkeel config check",
        expect![[r#"
            Check(ConfigCheckArgs { file: None, config: None, no_files: false })
        "#]],
    );
    check(
        "evenkeel config check some.toml",
        expect![[r#"
            Check(ConfigCheckArgs { file: Some("some.toml"), config: None, no_files: false })
        "#]],
    );
    check(
        "evenkeel config check --config some.toml --no-files",
        expect![[r#"
            Check(ConfigCheckArgs { file: None, config: Some("some.toml"), no_files: true })
        "#]],
    );
    check(
        "evenkeel config example",
        expect![[r#"
            Example
        "#]],
    );
}

#[test]
fn a_daemon_is_asked_at_its_address() {
    check(
        "evenkeel status",
        expect![[r#"
            StatusArgs { json: false, once: false, health: false, daemon: DaemonArgs { url: "http://127.0.0.1:7380", ca_file: None, token_file: None } }
        "#]],
    );
    check(
        "evenkeel status --health --url http://10.0.0.5:7380",
        expect![[r#"
            StatusArgs { json: false, once: false, health: true, daemon: DaemonArgs { url: "http://10.0.0.5:7380", ca_file: None, token_file: None } }
        "#]],
    );
    check(
        "evenkeel status --health --json",
        expect![[r#"
        exit 64: error: the argument '--health' cannot be used with '--json'

        Usage: evenkeel status --health

        For more information, try '--help'.
    "#]],
    );
    check(
        "evenkeel retry 866,900-910 --url http://10.0.0.5:7380/",
        expect![[r#"
            RetryArgs { slots: SlotSet(866,900-910), daemon: DaemonArgs { url: "http://10.0.0.5:7380", ca_file: None, token_file: None } }
        "#]],
    );
    check(
        "evenkeel retry 16384",
        expect![[r#"
        exit 64: error: invalid value '16384' for '<SLOTS>': `16384` is not a slot: slots are the numbers 0 to 16383

        For more information, try '--help'.
    "#]],
    );
    check(
        "evenkeel pause",
        expect![[r#"
            PauseArgs { length: None, daemon: DaemonArgs { url: "http://127.0.0.1:7380", ca_file: None, token_file: None } }
        "#]],
    );
    check(
        "evenkeel pause --for 1h30m",
        expect![[r#"
            PauseArgs { length: Some(5400s), daemon: DaemonArgs { url: "http://127.0.0.1:7380", ca_file: None, token_file: None } }
        "#]],
    );
    check(
        "evenkeel pause --for 500ms",
        expect![[r#"
        exit 64: error: invalid value '500ms' for '--for <TIME>': a pause lasts from a second to a year

        For more information, try '--help'.
    "#]],
    );
    check(
        "evenkeel pause --for soon",
        expect![[r#"
        exit 64: error: invalid value 'soon' for '--for <TIME>': expected number at 0

        For more information, try '--help'.
    "#]],
    );
    check(
        "evenkeel resume",
        expect![[r#"
            ResumeArgs { daemon: DaemonArgs { url: "http://127.0.0.1:7380", ca_file: None, token_file: None } }
        "#]],
    );
    check(
        "evenkeel status --url 10.0.0.5:7380",
        expect![[r#"
        exit 64: error: invalid value '10.0.0.5:7380' for '--url <URL>': a URL is http://host:port or https://host:port, as in http://127.0.0.1:7380

        For more information, try '--help'.
    "#]],
    );
    check(
        "evenkeel demo --keys 5 --hold --server /usr/bin/valkey-server",
        expect![[r#"
            DemoArgs { keys: 5, listen: None, hold: true, server: Some("/usr/bin/valkey-server") }
        "#]],
    );
}
