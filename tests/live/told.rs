//! What a running daemon tells and is told from the command line.

use crate::support::{
    Cluster, Daemon, Data, Evenkeel, Flavour, HASTY, Output, Points, SOON, Spec, Tagged, eventually, settings,
};

/// A call that asks, or tells, this daemon.
fn call(daemon: &Daemon, args: &[&str]) -> Output {
    let url = format!("http://{}", daemon.address());
    Evenkeel::new(&[args, &["--url", &url]].concat()).run_to_end()
}

fn look(daemon: &Daemon) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&daemon.http_get("/api/v1/status")).expect("JSON");
    status["look"]["number"].as_u64().expect("looks are counted")
}

#[test]
fn the_health_of_the_process_is_asked_with_one_command_whatever_the_cluster_does() {
    let mut daemon = Evenkeel::new(&["run"]).config("[cluster]\nseeds = [\"127.0.0.1:1\"]\n").spawn();
    daemon.await_http("/healthz", SOON, |_| true);
    let well = call(&daemon, &["status", "--health"]).exited(0);
    assert!(well.starts_with("ok: the supervisor turned ") && well.lines().count() == 1, "{well}");
    // As a container asks: of its environment, which has the proxy of whoever built it.
    let url = format!("http://{}", daemon.address());
    let asked =
        Evenkeel::new(&["status", "--health"]).env("EVENKEEL_URL", &url).env("HTTP_PROXY", "http://127.0.0.1:1");
    assert!(asked.run_to_end().exited(0).starts_with("ok: "));

    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    call(&daemon, &["status", "--health"]).assert(1, &["no answer from", &daemon.address().to_string()]);
}

#[test]
fn on_a_terminal_nodes_and_moves_are_shown_until_the_work_is_done() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 2_000, 0);
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, HASTY));
    let (points, call) = Points::order(call, "migrate.before=pause@20");
    let daemon = call.spawn();
    points.await_reached("migrate.before");
    let url = format!("http://{}", daemon.address());
    let mut shown = Evenkeel::new(&["status", "--url", &url]).on_terminal().spawn_command();
    let target = cluster.node_id(empty).short();
    let address = cluster.address(empty).to_string();
    eventually("bars are drawn", SOON, || {
        let drawn = shown.stdout();
        let says = |text: &str| drawn.contains(text);
        let whole = says("of 4096 slots") && says("slots/s") && says("ETA");
        if whole && says(&address) && says(" of 4096") && says(&format!("-> {target}")) { Ok(()) } else { Err(drawn) }
    });
    points.go("migrate.before");
    shown.output(SOON).assert(0, &["nothing is left to do"]);
    drop(daemon);
    data.verify_all(&cluster);
}

#[test]
fn a_slot_that_was_set_aside_is_shown_everywhere_and_one_command_puts_it_back() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = Tagged::fill(&cluster, first, 0, 20);
    let slot = tagged.slot.to_string();
    tagged.at_importer(&cluster, (first, second), &["SET", &tagged.key(0), "astray"]);
    let entry = format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{slot}\"\n", cluster.node_id(second));
    let config = settings(&cluster, &format!("{HASTY}[migration]\nattempts = 1\n{entry}"));
    let mut daemon = Evenkeel::new(&["run"]).config(&config).spawn();

    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[{\"name\":\"set_aside\""));
    let given_up = format!("set aside: slot {slot} after 1 try, given up until `evenkeel retry`: stray_keys:");
    call(&daemon, &["status"]).assert(2, &["story: evenkeel", "because: set_aside", &given_up]);
    let json = call(&daemon, &["status", "--json"]).exited_with_json(2);
    let aside = &json["status"]["set_aside"][0];
    assert_eq!((&aside["slot"].to_string(), aside["attempts"].as_u64()), (&slot, Some(1)), "{json}");
    assert!(aside["next_try_in_s"].is_null() && aside["delay_s"].is_null(), "{json}");
    let metrics = daemon.http_get("/metrics");
    for series in ["slots{class=\"stray_keys\",cluster=\"story\"}", "given_up_slots{cluster=\"story\"}"] {
        assert!(metrics.contains(&format!("evenkeel_set_aside_{series} 1\n")), "{series} in:\n{metrics}");
    }

    // What was in the way is gone, and nobody has told the daemon.
    tagged.at_importer(&cluster, (first, second), &["DEL", &tagged.key(0)]);
    let seen = look(&daemon);
    eventually("some looks", SOON, || if look(&daemon) > seen + 5 { Ok(()) } else { Err("not yet".to_owned()) });
    assert!(cluster.slots_of(first).contains(tagged.slot));
    assert_eq!(daemon.try_http_get("/api/v1/retry").expect("it answers").0, 405, "a GET changes nothing");
    let (refused, why) = daemon.try_http_post("/api/v1/retry", "{\"slots\": \"16384\"}").expect("it answers");
    assert!(refused == 400 && why.contains("16384"), "{refused}: {why}");
    assert!(cluster.slots_of(first).contains(tagged.slot));

    let other = cluster.slots_of(first).iter().find(|other| *other != tagged.slot).expect("it has more").to_string();
    let told = call(&daemon, &["retry", &format!("{slot},{other}")]);
    told.assert(0, &[&format!("put back, and tried again now: {slot}"), &format!("not set aside: {other}")]);
    eventually("the slot is moved", SOON, || {
        let owned = cluster.view(second)?.slots_of(cluster.node_id(second));
        if owned.contains(tagged.slot) { Ok(()) } else { Err("it is not".to_owned()) }
    });
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[],\"moves\":[]"));
    eventually("nothing is left", SOON, || {
        let output = call(&daemon, &["status"]);
        if output.status == Some(0) { Ok(()) } else { Err(output.stdout) }
    });
    call(&daemon, &["retry", &slot]).assert(0, &["none of these slots is set aside"]);
    tagged.verify(&cluster);

    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    for command in [&["status"][..], &["retry", "5"]] {
        call(&daemon, command).assert(1, &["no answer from", &daemon.address().to_string()]);
    }
}

#[test]
fn a_slot_that_is_set_aside_is_shown_while_the_others_of_its_move_go_on() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let mut both = [0, 1].map(|number| Tagged::fill(&cluster, first, number, 5));
    both.sort_by_key(|tagged| tagged.slot);
    let [stray, other] = both;
    stray.at_importer(&cluster, (first, second), &["SET", &stray.key(0), "astray"]);
    let slots = format!("{},{}", stray.slot, other.slot);
    let entry = format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{slots}\"\n", cluster.node_id(second));
    let config = settings(&cluster, &format!("{HASTY}[migration]\nattempts = 1\ngroup_slots = 1\n{entry}"));
    let (points, daemon) = Points::order(Evenkeel::new(&["run"]).config(&config), "migrate.before=pause@1");
    let daemon = daemon.spawn();
    points.await_reached("migrate.before");

    let status = daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"trouble\":\"stray_keys\""));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["moves"][0]["slots"]["ranges"], slots, "the move goes on: {status}");
    assert_eq!(status["set_aside"][0]["attempts"], 1, "{status}");
    points.go("migrate.before");
    let status = daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"moves\":[]"));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["set_aside"][0]["attempts"], 1, "one try is counted once: {status}");
    assert!(cluster.slots_of(second).contains(other.slot) && cluster.slots_of(first).contains(stray.slot));
}
