//! The direction in which modules depend on one another, read from the text of `src/`.
//!
//! The pure core (`cluster`, `plan`, `migration`, `throttle`) waits for nothing, reads no clock, does no I/O and knows
//! nothing of the modules above it; one module speaks to the client library; what is served over HTTP is made from
//! values. `docs/architecture.md` says why.

mod scan;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use scan::{Named, scan};

/// The pure modules, and the modules of this crate that each may use besides itself.
const CORE: [(&str, &[&str]); 5] = [
    ("wording", &[]),
    ("cluster", &[]),
    ("plan", &["cluster", "wording"]),
    ("migration", &["cluster", "wording"]),
    ("throttle", &["cluster", "migration"]),
];
/// Crates that wait, do I/O, or turn the core's types into somebody's format.
const NOT_IN_CORE: [&str; 8] = ["tokio", "futures", "fred", "serde", "serde_json", "axum", "prometheus", "tracing"];
/// Parts of the standard library that reach out of the process, or that wait.
const NOT_OF_STD: [&str; 5] = ["fs", "net", "env", "process", "thread"];
/// Clocks and waiting, by the end of their path: a type may be imported under its own name.
const NOT_CALLED: [&[&str]; 4] = [&["Instant", "now"], &["SystemTime", "now"], &[".await"], &["async"]];
/// What tells only of values, and so has no way to ask a server.
const WITHOUT_SERVERS: [&str; 2] = ["http", "metrics"];

/// Why a file may not name a path; `None` when it may.
fn objection(module: &[String], named: &Named) -> Option<String> {
    let path: Vec<&str> = named.segments.iter().map(String::as_str).collect();
    let top = module.first().map_or("", String::as_str);
    let says = |why: &str| Some(format!("`{}`: {why}", path.join("::")));
    if path[0] == "fred" && top != "redis" {
        return says("only redis/ names the client library");
    }
    if matches!(path[0], "kube" | "k8s_openapi") && top != "kubernetes" {
        return says("only kubernetes/ names its client library");
    }
    if WITHOUT_SERVERS.contains(&top) && path.starts_with(&["crate", "redis"]) {
        return says(&format!("{top} is made from values and asks no server"));
    }
    let (_, below) = CORE.iter().find(|(name, _)| *name == top)?;
    if path.len() > 1 && NOT_IN_CORE.contains(&path[0]) {
        return says("the core does not use this crate");
    }
    if matches!(path[..], ["Serialize" | "Deserialize", ..]) {
        return says("what is printed or served has types of its own");
    }
    if let ["std" | "core", part, ..] = path[..]
        && NOT_OF_STD.contains(&part)
    {
        return says("the core does no I/O");
    }
    if NOT_CALLED.iter().any(|end| path.ends_with(end)) {
        return says("the core never waits and never reads a clock");
    }
    match path[..] {
        ["crate", other, ..] if other != top && !below.contains(&other) => {
            says(&format!("{top} may use {}", if below.is_empty() { "nothing".to_owned() } else { below.join(", ") }))
        }
        _ => None,
    }
}

/// The objections to one text, each as `file:line: what`, and the modules that it declares for tests.
fn judge(file: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let module = module_of(file);
    let scan = scan(text, &module);
    let mut found = Vec::new();
    for named in &scan.named {
        if let Some(objection) = objection(&module, named) {
            found.push(format!("src/{file}:{}: {objection}", named.line));
        }
    }
    found.dedup();
    (found, scan.test_modules)
}

/// `plan/bind.rs` is `["plan", "bind"]`; the root has no name.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| !matches!(*part, "lib" | "main")).map(str::to_owned).collect()
}

/// Every file below `src/`, by its path there.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let relative = |file: &PathBuf| file.strip_prefix(&root).unwrap().display().to_string();
    files.iter().map(|file| (relative(file), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn modules_name_only_what_lies_below_them() {
    let sources = sources();
    let mut objections = Vec::new();
    let mut of_tests = BTreeSet::new();
    for (file, text) in &sources {
        let (found, test_modules) = judge(file, text);
        let module = module_of(file);
        of_tests.extend(test_modules.into_iter().map(|name| [module.clone(), vec![name]].concat()));
        objections.push((module, found));
    }
    let is_test = |module: &[String]| of_tests.iter().any(|test| module.starts_with(test));
    let left = objections.iter().filter(|(module, _)| !is_test(module)).flat_map(|(_, found)| found);
    let left = left.fold(String::new(), |mut all, objection| {
        let _ = writeln!(all, "{objection}");
        all
    });
    assert!(left.is_empty(), "\n{left}");
    for (module, _) in CORE {
        let files = sources.iter().filter(|(file, _)| module_of(file)[..].first().is_some_and(|top| top == module));
        // All but that one are directories of several files.
        let least = if module == "wording" { 1 } else { 2 };
        assert!(files.count() >= least, "{module} has moved: the check reads nothing of it");
    }
    assert!(of_tests.contains(&vec!["cluster".to_owned(), "fixtures".to_owned()]), "{of_tests:?}");
}

/// What a watch channel lends is a lock for reading. Whoever takes it twice in one statement, or in a function that it calls,
/// waits for ever where somebody waits in between to write. So a line takes a copy of it, or one field, and calls nothing.
fn keeps_a_lock(line: &str) -> bool {
    let lends = ["borrow()", "borrow_and_update()"].map(|call| line.split_once(&format!(".{call}")));
    let Some((before, after)) = lends.into_iter().flatten().next() else { return false };
    let copies = before.contains("Arc::clone(&") || before.contains('*') || after.starts_with(".clone()");
    !copies && (!after.starts_with('.') || after.replace(".clone()", "").contains('('))
}

#[test]
fn no_lock_of_a_watch_channel_is_kept() {
    let kept = sources().into_iter().flat_map(|(file, text)| {
        let lines = text.lines().enumerate().filter(|(_, line)| keeps_a_lock(line));
        lines.map(|(at, line)| format!("src/{file}:{}: {}", at + 1, line.trim())).collect::<Vec<_>>()
    });
    assert_eq!(kept.collect::<Vec<_>>(), Vec::<String>::new());
    for line in [
        "let status = status.borrow();",
        "warnings: self.files.borrow().faults.iter().chain(self.more()).collect(),",
        "let acts = self.config.borrow().mode == Mode::Act && self.may_act();",
        "Status::first(&config.borrow(), &instance)",
    ] {
        assert!(keeps_a_lock(line), "{line}");
    }
    for line in [
        "let config = Arc::clone(&self.config.borrow());",
        "let sight = sights.borrow_and_update().clone();",
        "let work = status.borrow().work;",
        "let dialer = settings.borrow().dialer.clone();",
        "if matches!(*self.published.borrow(), Tenure::Ours(_)) {",
    ] {
        assert!(!keeps_a_lock(line), "{line}");
    }
}

fn check(file: &str, text: &str, expected: Expect) {
    expected.assert_eq(&judge(file, text).0.join("\n"));
}

#[test]
fn waiting_clocks_and_io_in_the_core_are_found_with_their_line() {
    check(
        "plan/bad.rs",
        "use std::{fmt, fs};\nuse tokio::time::Instant;\n\nasync fn now() -> Instant {\n    \
         sleep(std::time::Duration::ZERO).await;\n    Instant\n        ::now()\n}\n\
         fn host() { std::net::TcpStream::connect(\"a:1\"); }\n",
        expect![[r#"
            src/plan/bad.rs:1: `std::fs`: the core does no I/O
            src/plan/bad.rs:2: `tokio::time::Instant`: the core does not use this crate
            src/plan/bad.rs:4: `async`: the core never waits and never reads a clock
            src/plan/bad.rs:5: `.await`: the core never waits and never reads a clock
            src/plan/bad.rs:6: `Instant::now`: the core never waits and never reads a clock
            src/plan/bad.rs:9: `std::net::TcpStream::connect`: the core does no I/O"#]],
    );
}

#[test]
fn a_module_above_the_core_is_found_however_it_is_named() {
    check(
        "plan/bad.rs",
        "use crate::{cluster::Slot, daemon::{self, Reason}};\nuse super::super::redis::Conn;\n\
         fn f(_: crate::migration::Pair, _: super::Plan, _: self::bad::Thing) {}\n",
        expect![[r#"
            src/plan/bad.rs:1: `crate::daemon`: plan may use cluster, wording
            src/plan/bad.rs:1: `crate::daemon::Reason`: plan may use cluster, wording
            src/plan/bad.rs:2: `crate::redis::Conn`: plan may use cluster, wording
            src/plan/bad.rs:3: `crate::migration::Pair`: plan may use cluster, wording"#]],
    );
    check(
        "throttle/bad.rs",
        "use crate::migration::Pair;\nuse crate::plan::Move;\n",
        expect!["src/throttle/bad.rs:2: `crate::plan::Move`: throttle may use cluster, migration"],
    );
    check(
        "cluster/bad.rs",
        "use crate::migration::Pair;\n",
        expect!["src/cluster/bad.rs:1: `crate::migration::Pair`: cluster may use nothing"],
    );
}

#[test]
fn types_of_the_core_that_derive_a_format_are_found() {
    check(
        "migration/bad.rs",
        "#[derive(Clone, Serialize)]\nstruct A;\n",
        expect!["src/migration/bad.rs:1: `Serialize`: what is printed or served has types of its own"],
    );
    check(
        "cluster/bad.rs",
        "#[derive(serde::Deserialize)]\nstruct A;\n",
        expect!["src/cluster/bad.rs:1: `serde::Deserialize`: the core does not use this crate"],
    );
}

#[test]
fn the_client_library_and_the_servers_have_one_door() {
    check(
        "daemon/bad.rs",
        "use fred::clients::Client;\n",
        expect!["src/daemon/bad.rs:1: `fred::clients::Client`: only redis/ names the client library"],
    );
    check("redis/good.rs", "use fred::clients::Client;\n", expect![[r#""#]]);
    check(
        "daemon/bad.rs",
        "use kube::Client;\n",
        expect!["src/daemon/bad.rs:1: `kube::Client`: only kubernetes/ names its client library"],
    );
    check(
        "http/bad.rs",
        "use crate::redis::Conn;\n",
        expect!["src/http/bad.rs:1: `crate::redis::Conn`: http is made from values and asks no server"],
    );
    check(
        "metrics.rs",
        "fn f(_: crate::redis::Conn) {}\n",
        expect!["src/metrics.rs:1: `crate::redis::Conn`: metrics is made from values and asks no server"],
    );
    check("daemon/good.rs", "use crate::redis::Conn;\nfn f() { async {}.await }\n", expect![[r#""#]]);
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    check(
        "cluster/mixed.rs",
        "//! Not tokio::time.\n/* fred::x */\nconst A: &str = \"a \\\" std::fs::read b\";\n\
         const B: &str = r#\"tokio::x \" .await\"#;\nconst C: [char; 2] = ['\\'', '\"'];\n\
         fn f<'a>(x: &'a str) -> &'a str { x }\n\
         #[cfg(test)]\nmod tests {\n    use std::fs;\n    async fn f() { g().await }\n}\n\
         #[cfg(test)]\nuse tokio::{io, net};\n#[cfg(test)]\npub(crate) mod fixtures;\nfn g() { std::fs::read(\"x\"); }\n",
        expect!["src/cluster/mixed.rs:16: `std::fs::read`: the core does no I/O"],
    );
    let (_, test_modules) = judge("cluster/mod.rs", "mod a;\n#[cfg(test)]\npub(crate) mod fixtures;\nmod b;\n");
    assert_eq!(test_modules, ["fixtures"]);
}
