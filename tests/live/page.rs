//! The page, in a real browser: a rebalance is watched, paused, resumed and approved on it, and a node drained.

use serde_json::Value;

use crate::support::{
    Browser, Cluster, Daemon, Data, Evenkeel, Flavour, HASTY, Points, SOON, Spec, eventually, settings,
};

fn open(daemon: &Daemon) -> Browser {
    Browser::open(&format!("http://{}/", daemon.address()))
}

/// The rows of a list or table.
fn rows(browser: &Browser, of: &str) -> Vec<String> {
    let rows = browser.value(&format!("[...document.querySelector('{of}').children].map((row) => row.innerText)"));
    rows.as_array().expect("a list").iter().map(|row| row.as_str().expect("a text").to_owned()).collect()
}

/// Enters a wrong token where the page asks for one, and then the right one of these stories.
fn guess_and_show_token(browser: &Browser) {
    browser.enter("#token-text", "guess");
    browser.click("#token button");
    browser.await_text("#answer", "this is not the token");
    browser.enter("#token-text", "s3cret");
    browser.click("#token button");
}

/// What the page says of a slot to whoever points at its cell.
fn slot_at(browser: &Browser, slot: u16) -> String {
    let width = browser.value("document.getElementById('map').clientWidth").as_f64().expect("a number");
    let middle_of = |cell: u16| (f64::from(cell) + 0.5) * width / 128.0 - width / 2.0;
    #[expect(clippy::cast_possible_truncation, reason = "pixels of a small picture")]
    let pixels = |cell| middle_of(cell).round() as i64;
    browser.point_at("#map", pixels(slot % 128), pixels(slot / 128));
    browser.text("#slot")
}

#[test]
fn a_rebalance_is_watched_paused_and_resumed_on_the_page() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).empty_primaries(1));
    let data = Data::fill_database(&cluster, 5_000, 0);
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let config = settings(&cluster, &format!("{HASTY}[migration]\ngroup_slots = 16\n"));
    let (points, call) = Points::order(Evenkeel::new(&["run"]).config(&config), "migrate.before=pause@60");
    let mut daemon = call.spawn();

    // In the middle: held between two calls, with slots open.
    points.await_reached("migrate.before");
    let browser = open(&daemon);
    browser.await_text("#state", "Moving slots");
    browser.await_text("#cluster", "story");
    let target = cluster.address(empty).to_string();
    eventually("every node is listed, the new one with what it should hold", SOON, || {
        let nodes = rows(&browser, "#nodes");
        let new = nodes.iter().find(|row| row.contains(&target)).cloned().unwrap_or_default();
        if nodes.len() == 4 && new.contains(" of 4,096") && new.contains("Valkey 9.1") {
            Ok(())
        } else {
            Err(nodes.join("\n"))
        }
    });
    let figures = browser.text("#figures");
    assert!(figures.contains("of 4,096 slots") && figures.contains("so far"), "{figures}");
    assert!(rows(&browser, "#moves").iter().any(|row| row.contains(&format!("→ {target}"))));
    eventually("an open slot is told from the others", SOON, || {
        // Only that of the move that is held stays open.
        let topology: Value = serde_json::from_str(&daemon.http_get("/api/v1/topology")).expect("JSON");
        let slot =
            topology["open_slots"][0]["slot"].as_u64().and_then(|slot| u16::try_from(slot).ok()).expect("a slot");
        let told = slot_at(&browser, slot);
        let right =
            told.starts_with(&format!("Slot {slot}: ")) && told.ends_with(&format!("on its way to {target}; open now"));
        if right { Ok(()) } else { Err(told) }
    });
    browser.picture("middle");

    // Paused by a click: what is open is finished, and it says so.
    browser.click("#pause");
    browser.await_text("#state", "Pausing: finishing what is open");
    points.go("migrate.before");
    browser.await_text("#state", "Paused");
    browser.await_text("#answer", "until a restart at the most");
    browser.await_text("#reasons", "paused");
    assert!(cluster.open_slots().expect("all nodes answer").is_empty());
    browser.await_text("#history", &target);
    browser.picture("paused");

    browser.click("#resume");
    browser.await_text("#state", "On an even keel");
    browser.await_text("#reasons", "nothing to move: every node holds exactly its target");
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4_096)).collect::<Vec<_>>());
    eventually("every node is seen with its share", SOON, || {
        let nodes = rows(&browser, "#nodes");
        if nodes.iter().all(|row| row.contains("4,096 of 4,096")) { Ok(()) } else { Err(nodes.join("\n")) }
    });
    let history: Value = serde_json::from_str(&daemon.http_get("/api/v1/history")).expect("JSON");
    let moves = history["moves"].as_array().expect("a list");
    eventually("as many moves are shown as there were", SOON, || {
        let shown = rows(&browser, "#history").len();
        if shown == moves.len() { Ok(()) } else { Err(shown.to_string()) }
    });
    assert!(moves.iter().all(|ended| ended["why"] == "level" && ended["outcome"].is_string()), "{history}");
    let slots: u64 = moves.iter().filter_map(|ended| ended["slots"]["count"].as_u64()).sum();
    assert_eq!(slots, 4_096, "{history}");
    assert!(moves.iter().all(|ended| ended["bytes_estimated"].as_u64() > Some(0)), "{history}");
    // What was pointed at in the middle is told as it is now.
    let pointed = browser.text("#slot");
    assert!(pointed.contains(&target) && !pointed.contains("open now"), "{pointed}");
    browser.picture("end");
    assert_eq!(browser.faults(), [""; 0]);

    // A page that is open does not hold up the end, and says that it is cut off.
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    browser.await_text("#state", "No word from evenkeel");
    data.verify_all(&cluster);
}

#[test]
fn a_daemon_with_a_token_is_told_nothing_by_a_page_that_does_not_know_it() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, HASTY)).env("EVENKEEL_HTTP_TOKEN", "s3cret");
    let mut daemon = call.spawn();
    daemon.await_http("/readyz", SOON, |_| true);
    let browser = open(&daemon);
    browser.await_text("#state", "On an even keel");
    assert!(browser.text("#token").is_empty(), "nobody is asked for a token who tells it nothing");
    browser.click("#pause");
    browser.await_text("#answer", "show the token of http.token_file");
    guess_and_show_token(&browser);
    browser.await_text("#state", "Paused");
    browser.click("#resume");
    browser.await_text("#state", "On an even keel");

    // A daemon that hangs causes no error, only silence.
    daemon.sigstop();
    browser.await_text("#state", "No word from evenkeel");
    daemon.sigcont();
    browser.await_text("#state", "On an even keel");
}

#[test]
fn a_daemon_whose_reads_are_closed_tells_nothing_before_the_token_is_shown() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let config = settings(&cluster, &format!("{HASTY}[http]\nreads = \"token\"\n"));
    let run = || Evenkeel::new(&["run"]).config(&config);
    run().run_to_end().assert(64, &["http.reads is \"token\", and there is no token", "EVENKEEL_HTTP_TOKEN"]);

    let daemon = run().env("EVENKEEL_HTTP_TOKEN", "s3cret").spawn();
    let browser = open(&daemon);
    browser.await_text("#state", "Closed without the token");
    assert!(rows(&browser, "#nodes").is_empty());
    guess_and_show_token(&browser);
    browser.await_text("#state", "On an even keel");
    assert!(browser.text("#token").is_empty() && browser.text("#answer").is_empty());
    browser.click("#pause");
    browser.await_text("#state", "Paused");

    let url = format!("http://{}", daemon.address());
    let status = || Evenkeel::new(&["status", "--url", &url]);
    status().run_to_end().assert(1, &["the daemon asks for its token", "--token-file"]);
    status().env("EVENKEEL_HTTP_TOKEN", "s3cret").run_to_end().assert(0, &["paused"]);
}

#[test]
fn a_plan_is_approved_and_a_node_drained_and_given_its_share_again_on_the_page() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    for node in cluster.nodes() {
        cluster.cmd::<()>(node, &["CONFIG", "SET", "cluster-allow-replica-migration", "no"]);
    }
    let data = Data::fill_database(&cluster, 1_000, 0);
    let config = settings(&cluster, &format!("{HASTY}approval = \"manual\"\n"));
    let mut daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    daemon.await_http("/readyz", SOON, |_| true);
    let browser = open(&daemon);
    browser.await_text("#state", "On an even keel");
    assert!(browser.text("#approve").is_empty(), "nothing is to be approved");

    // The first of the list, which is the one with the least address.
    let drained = cluster.primaries()[0];
    browser.await_text("#draining", &cluster.address(drained).to_string());
    browser.click("#draining button");
    browser.await_text("#drains", "is drained, as somebody told it");
    browser.await_text("#state", "A plan waits for approval");
    browser.await_text("#reasons", "evenkeel approve");
    assert_eq!(cluster.moving_calls(), 0, "calls that move slots before anybody approved them");
    browser.picture("approval");
    browser.click("#approve");
    browser.await_text("#answer", "Approved: 5,461 slots");
    browser.await_text("#state", "On an even keel");
    assert!(cluster.slots_of(drained).is_empty());

    browser.click("#drains button");
    browser.await_text("#state", "A plan waits for approval");
    assert!(browser.text("#drains").is_empty());
    browser.click("#approve");
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 5_461)).collect::<Vec<_>>());
    assert_eq!(browser.faults(), [""; 0]);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    data.verify_all(&cluster);
}
