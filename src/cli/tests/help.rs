//! What `--help` says, word for word.

use expect_test::{Expect, expect};

use crate::cli::Cli;

/// What `--help` prints on a terminal of 100 columns.
fn check_help(line: &str, expect: Expect) {
    let asked = Cli::definition().term_width(100).try_get_matches_from(line.split_whitespace());
    expect.assert_eq(&asked.expect_err("help is clap's word").to_string());
}

#[test]
fn help_tells_the_commands_the_environment_and_the_exit_statuses() {
    check_help(
        "evenkeel --help",
        expect![[r#"
            Keeps a Redis or Valkey Cluster on an even keel: moves hash slots between primaries under live
            traffic until each holds its share

            Usage: evenkeel <COMMAND>

            Commands:
              run          Watch the cluster and keep it balanced, until stopped
              plan         Print what would move and why; changes nothing
              rebalance    Balance the cluster now, then exit
              move         Move just these slots, whatever the targets say
              check        Look for open slots, slots without an owner, nodes that disagree and stray keys;
                           changes nothing
              repair       Put right what check finds, slot by slot, as far as no human must decide
              status       Ask a running daemon what it does, how far it has come, and why it does nothing
                           (more)
              retry        Tell a running daemon to try slots again that it has set aside
              pause        Tell a running daemon to begin nothing new, for a time or until told to go on
              resume       Tell a paused daemon to go on
              drain        Tell a running daemon to leave a node's shard nothing, whatever the targets say
              undrain      Tell a running daemon to give it its share again
              approve      Have a running daemon carry a plan out that waits for approval
              config       Check a configuration file, or print an annotated one
              completions  Print what a shell needs to complete this command line
              man          Write the manual's pages into a directory
              demo         Start a throw-away local cluster with traffic and watch it being balanced
              help         Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help
              -V, --version  Print version

            Environment:
              EVENKEEL_PASSWORD  the cluster's password; goes before a password file. It is never an argument

            Exit status:
              0   nothing is left to do
              2   something is left: moves in a plan, findings, slots set aside, or a human is needed
              1   could not tell or could not do: no connection, or the picture is unclear
              64  bad usage or bad configuration
        "#]],
    );
}

#[test]
fn help_of_run() {
    check_help(
        "evenkeel run --help",
        expect![[r#"
            Watch the cluster and keep it balanced, until stopped

            Usage: evenkeel run [OPTIONS] <--config <FILE>|--seed <HOST:PORT>>

            Options:
                  --observe           Watch and plan, and move nothing, whatever the configuration says
                  --listen <IP:PORT>  Where to serve metrics, status and the page [default: http.listen, which
                                      is 127.0.0.1:7380] [env: EVENKEEL_LISTEN]
              -h, --help              Print help

            Cluster:
                  --config <FILE>           The configuration file
                  --seed <HOST:PORT>        Any node of the cluster, instead of a file; repeatable
                  --username <NAME>         The user to sign in as; the password comes from EVENKEEL_PASSWORD or
                                            a file
                  --password-file <FILE>    The file that holds the password
                  --tls-ca <FILE>           Use TLS; the file with the authorities that sign the servers'
                                            certificates
                  --tls-cert <FILE>         Our own certificate
                  --tls-key <FILE>          The key of our own certificate
                  --tls-server-name <NAME>  The name that the servers' certificates must carry

            Targets:
                  --weight <NODE=W>      Give the node's shard this weight, as in 10.0.0.7:6379=2; repeatable
                  --drain <NODE>         Move all slots away from the node's shard; repeatable
                  --threshold <PERCENT>  Act when a node is off its share by more than this

            Exit status:
              0   nothing is left to do
              2   something is left: moves in a plan, findings, slots set aside, or a human is needed
              1   could not tell or could not do: no connection, or the picture is unclear
              64  bad usage or bad configuration
        "#]],
    );
}

#[test]
fn help_of_rebalance() {
    check_help(
        "evenkeel rebalance --help",
        expect![[r#"
            Balance the cluster now, then exit

            Usage: evenkeel rebalance [OPTIONS] <--config <FILE>|--seed <HOST:PORT>>

            Options:
                  --json  Print one JSON document instead of text
              -h, --help  Print help

            Cluster:
                  --config <FILE>           The configuration file
                  --seed <HOST:PORT>        Any node of the cluster, instead of a file; repeatable
                  --username <NAME>         The user to sign in as; the password comes from EVENKEEL_PASSWORD or
                                            a file
                  --password-file <FILE>    The file that holds the password
                  --tls-ca <FILE>           Use TLS; the file with the authorities that sign the servers'
                                            certificates
                  --tls-cert <FILE>         Our own certificate
                  --tls-key <FILE>          The key of our own certificate
                  --tls-server-name <NAME>  The name that the servers' certificates must carry

            Targets:
                  --weight <NODE=W>      Give the node's shard this weight, as in 10.0.0.7:6379=2; repeatable
                  --drain <NODE>         Move all slots away from the node's shard; repeatable
                  --threshold <PERCENT>  Act when a node is off its share by more than this

            Exit status:
              0   nothing is left to do
              2   something is left: moves in a plan, findings, slots set aside, or a human is needed
              1   could not tell or could not do: no connection, or the picture is unclear
              64  bad usage or bad configuration
        "#]],
    );
}

#[test]
fn help_of_move() {
    check_help(
        "evenkeel move --help",
        expect![[r#"
            Move just these slots, whatever the targets say

            Usage: evenkeel move [OPTIONS] --slots <SLOTS> --to <NODE> <--config <FILE>|--seed <HOST:PORT>>

            Options:
                  --slots <SLOTS>  The slots to move, as in 866,900-910
                  --to <NODE>      Where to: node id, id prefix of 8 or more, host:port or announced hostname
                  --json           Print one JSON document instead of text
              -h, --help           Print help

            Cluster:
                  --config <FILE>           The configuration file
                  --seed <HOST:PORT>        Any node of the cluster, instead of a file; repeatable
                  --username <NAME>         The user to sign in as; the password comes from EVENKEEL_PASSWORD or
                                            a file
                  --password-file <FILE>    The file that holds the password
                  --tls-ca <FILE>           Use TLS; the file with the authorities that sign the servers'
                                            certificates
                  --tls-cert <FILE>         Our own certificate
                  --tls-key <FILE>          The key of our own certificate
                  --tls-server-name <NAME>  The name that the servers' certificates must carry

            Exit status:
              0   nothing is left to do
              2   something is left: moves in a plan, findings, slots set aside, or a human is needed
              1   could not tell or could not do: no connection, or the picture is unclear
              64  bad usage or bad configuration
        "#]],
    );
}

#[test]
fn help_of_check() {
    check_help(
        "evenkeel check --help",
        expect![[r#"
            Look for open slots, slots without an owner, nodes that disagree and stray keys; changes nothing

            Usage: evenkeel check [OPTIONS] <--config <FILE>|--seed <HOST:PORT>>

            Options:
                  --json  Print one JSON document instead of text
              -h, --help  Print help

            Cluster:
                  --config <FILE>           The configuration file
                  --seed <HOST:PORT>        Any node of the cluster, instead of a file; repeatable
                  --username <NAME>         The user to sign in as; the password comes from EVENKEEL_PASSWORD or
                                            a file
                  --password-file <FILE>    The file that holds the password
                  --tls-ca <FILE>           Use TLS; the file with the authorities that sign the servers'
                                            certificates
                  --tls-cert <FILE>         Our own certificate
                  --tls-key <FILE>          The key of our own certificate
                  --tls-server-name <NAME>  The name that the servers' certificates must carry

            Exit status:
              0   nothing is left to do
              2   something is left: moves in a plan, findings, slots set aside, or a human is needed
              1   could not tell or could not do: no connection, or the picture is unclear
              64  bad usage or bad configuration
        "#]],
    );
}

#[test]
fn help_of_repair() {
    check_help(
        "evenkeel repair --help",
        expect![[r#"
            Put right what check finds, slot by slot, as far as no human must decide

            Usage: evenkeel repair [OPTIONS] <--config <FILE>|--seed <HOST:PORT>>

            Options:
                  --dry-run                 Print what would be done, and do nothing
                  --slots <SLOTS>           Only these slots, as in 866,900-910; stray keys are brought home
                                            only in slots that are named
                  --prefer <source|target>  Which copy to keep of keys with two values in the named slots: the
                                            one that clients see now at the slot's owner (source), or the other
                                            one (target)
                  --json                    Print one JSON document instead of text
              -h, --help                    Print help

            Cluster:
                  --config <FILE>           The configuration file
                  --seed <HOST:PORT>        Any node of the cluster, instead of a file; repeatable
                  --username <NAME>         The user to sign in as; the password comes from EVENKEEL_PASSWORD or
                                            a file
                  --password-file <FILE>    The file that holds the password
                  --tls-ca <FILE>           Use TLS; the file with the authorities that sign the servers'
                                            certificates
                  --tls-cert <FILE>         Our own certificate
                  --tls-key <FILE>          The key of our own certificate
                  --tls-server-name <NAME>  The name that the servers' certificates must carry

            Exit status:
              0   nothing is left to do
              2   something is left: moves in a plan, findings, slots set aside, or a human is needed
              1   could not tell or could not do: no connection, or the picture is unclear
              64  bad usage or bad configuration
        "#]],
    );
}

#[test]
fn help_of_config() {
    check_help(
        "evenkeel config --help",
        expect![[r#"
            Check a configuration file, or print an annotated one

            Usage: evenkeel config <COMMAND>

            Commands:
              check    Report everything that is wrong with a file, and with the files that it names
              example  Print a file with every key, its range and its default
              help     Print this message or the help of the given subcommand(s)

            Options:
              -h, --help  Print help
        "#]],
    );
}

#[test]
fn help_of_config_check() {
    check_help(
        "evenkeel config check --help",
        expect![[r#"
            Report everything that is wrong with a file, and with the files that it names

            Usage: evenkeel config check [OPTIONS] [FILE]

            Arguments:
              [FILE]  The file to check [default: evenkeel.toml]

            Options:
                  --config <FILE>  The same, as every other command takes it
                  --no-files       Open none of the files that it names: on another machine than the daemon's
              -h, --help           Print help
        "#]],
    );
}

#[test]
fn help_of_demo() {
    check_help(
        "evenkeel demo --help",
        expect![[r#"
            Start a throw-away local cluster with traffic and watch it being balanced

            Usage: evenkeel demo [OPTIONS]

            Options:
                  --keys <N>          How many keys to fill the cluster with [default: 100000]
                  --listen <IP:PORT>  Where to serve metrics, status and the page; another port when this one is
                                      in use [default: 127.0.0.1:7380] [env: EVENKEEL_LISTEN]
                  --hold              Keep everything running after the end, until Ctrl-C
                  --server <PATH>     The redis-server or valkey-server to start [default: the first of the two
                                      that is found in PATH]
              -h, --help              Print help

            Exit status:
              0    all slots and keys are where they should be, and the clients saw no error and no loss
              1    something went wrong; it says what
              64   bad usage
              130  interrupted; nothing is left behind
        "#]],
    );
}
