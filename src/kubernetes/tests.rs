//! Stories of one who asks for a Lease and others who do.

use k8s_openapi::api::coordination::v1::Lease;

use super::fake::{Fake, Mood, caller_at};
use super::*;

/// Long enough that a machine with other work does not lose it between two renewals of a story.
const TTL: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(5);

async fn ask(
    caller: &mut LeaseObject,
    instance: &str,
    ttl: Duration,
    open: Option<&str>,
) -> Result<LeaseReply, String> {
    caller.call(LeaseCall { instance, host: &format!("host of {instance}"), ttl, open }).await
}

fn ours(open: &str) -> LeaseReply {
    LeaseReply::Ours { open: open.to_owned() }
}

/// Who has it, as far as a reply says that somebody else has.
fn held_by(reply: &Result<LeaseReply, String>) -> (&str, &str) {
    match reply {
        Ok(LeaseReply::Held { instance, host, .. }) => (instance, host),
        Ok(LeaseReply::Ours { .. } | LeaseReply::Watched { .. }) | Err(_) => panic!("nobody else has it: {reply:?}"),
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn spec(lease: &Lease) -> &LeaseSpec {
    lease.spec.as_ref().expect("it has a spec")
}

fn taken_by(name: &str) -> impl FnOnce(&mut Lease) {
    let holder_identity = Some(name.to_owned());
    move |lease| {
        lease.spec = Some(LeaseSpec { holder_identity, lease_duration_seconds: Some(1), ..LeaseSpec::default() });
    }
}

#[tokio::test]
async fn the_first_makes_the_object_and_renews_it_under_its_name() {
    let fake = Fake::start().await;
    let mut a = fake.caller(LIMIT);
    let ttl = Duration::from_millis(1500);
    assert_eq!(ask(&mut a, "a", ttl, None).await, Ok(ours("")));
    let made = fake.lease();
    assert_eq!((holder(&made), annotation(Some(&made), HOST)), (Some("a"), "host of a".to_owned()));
    // Others never count on less than we do.
    assert_eq!((spec(&made).lease_duration_seconds, spec(&made).lease_transitions), (Some(2), Some(0)));
    assert!(spec(&made).acquire_time.is_some() && spec(&made).acquire_time == spec(&made).renew_time);
    // As Go's MicroTime is written: six digits, always.
    let written = serde_json::to_value(&made).unwrap()["spec"]["renewTime"].as_str().unwrap().to_owned();
    assert_eq!((written.len(), &written[19..20], written.ends_with('Z')), (27, ".", true), "{written}");

    assert_eq!(ask(&mut a, "a", ttl, Some("[1]")).await, Ok(ours("")));
    assert_eq!(ask(&mut a, "a", ttl, Some("[2]")).await, Ok(ours("[1]")));
    let renewed = fake.lease();
    assert_eq!(annotation(Some(&renewed), OPEN_SLOTS), "[2]");
    assert_eq!(spec(&renewed).acquire_time, spec(&made).acquire_time);
    assert!(spec(&renewed).renew_time > spec(&made).renew_time);
    assert_eq!((spec(&renewed).lease_transitions, fake.changes()), (Some(0), 3));
}

#[tokio::test]
async fn a_lease_that_is_renewed_is_never_taken_and_one_that_is_not_when_it_has_run_out() {
    let fake = Fake::start().await;
    let (mut a, mut b) = (fake.caller(LIMIT), fake.caller(LIMIT));
    assert_eq!(ask(&mut a, "a", TTL, None).await, Ok(ours("")));
    let first = ask(&mut b, "b", TTL, None).await;
    assert!(
        matches!(&first, Ok(LeaseReply::Watched { instance, left, .. }) if instance == "a" && *left <= TTL),
        "{first:?}"
    );
    // Longer than it lasts, with renewals.
    let mut seen = Instant::now();
    for _ in 0..5 {
        tokio::time::sleep(TTL / 4).await;
        assert!(ask(&mut a, "a", TTL, Some("[a's]")).await.is_ok());
        seen = Instant::now();
        assert_eq!(held_by(&ask(&mut b, "b", TTL, None).await), ("a", "host of a"));
    }
    let taken = loop {
        match ask(&mut b, "b", TTL, None).await {
            Ok(LeaseReply::Held { .. }) => tokio::time::sleep(TTL / 20).await,
            reply => break reply,
        }
    };
    assert!(seen.elapsed() >= TTL, "it was taken {:?} after it was seen to be renewed", seen.elapsed());
    // With what a had open, which stays on record until b writes its own.
    assert_eq!(taken, Ok(ours("[a's]")));
    let lease = fake.lease();
    assert_eq!((holder(&lease), spec(&lease).lease_transitions), (Some("b"), Some(1)));
    assert_eq!(annotation(Some(&lease), OPEN_SLOTS), "[a's]");
    // Who wakes up and thinks that it is still his changes nothing.
    let changes = fake.changes();
    assert_eq!(held_by(&ask(&mut a, "a", TTL, Some("[]")).await).0, "b");
    assert_eq!((fake.changes(), annotation(Some(&fake.lease()), OPEN_SLOTS)), (changes, "[a's]".to_owned()));
}

#[tokio::test]
async fn what_was_given_back_is_taken_at_once_with_what_was_left_open() {
    let fake = Fake::start().await;
    let (mut a, mut b) = (fake.caller(LIMIT), fake.caller(LIMIT));
    let long = Duration::from_mins(10);
    assert_eq!(ask(&mut a, "a", long, None).await, Ok(ours("")));
    assert_eq!(ask(&mut a, "a", Duration::ZERO, Some("[left]")).await, Ok(ours("")));
    let given = fake.lease();
    assert_eq!((holder(&given), annotation(Some(&given), OPEN_SLOTS)), (None, "[left]".to_owned()));
    assert_eq!(ask(&mut b, "b", long, None).await, Ok(ours("[left]")));
    // It is not a's any more, so it cannot be given back twice.
    assert_eq!(held_by(&ask(&mut a, "a", Duration::ZERO, Some("[]")).await).0, "b");
    assert_eq!(holder(&fake.lease()), Some("b"));
}

#[tokio::test]
async fn of_two_that_change_the_same_version_the_slower_one_reads_again() {
    let fake = Fake::start().await;
    let mut a = fake.caller(LIMIT);
    // The object is made between our look and our own try.
    fake.be_overtaken(taken_by("b"));
    let reply = ask(&mut a, "a", TTL, None).await;
    assert_eq!(held_by(&reply).0, "b");
    assert_eq!((holder(&fake.lease()), fake.changes()), (Some("b"), 0));

    // It is ours, and is taken between our look and our renewal.
    fake.write(taken_by("a"));
    fake.be_overtaken(taken_by("b"));
    assert_eq!(held_by(&ask(&mut a, "a", TTL, Some("[]")).await).0, "b");
    assert_eq!((holder(&fake.lease()), fake.changes()), (Some("b"), 0));

    // A label that somebody sets costs one more try, and stays.
    fake.write(taken_by("a"));
    fake.be_overtaken(|lease| lease.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into()));
    assert_eq!(ask(&mut a, "a", TTL, Some("[]")).await, Ok(ours("")));
    assert!(fake.lease().metadata.labels.is_some_and(|labels| labels["team"] == "x"));

    for _ in 0..TRIES {
        fake.be_overtaken(|_| {});
    }
    let reply = ask(&mut a, "a", TTL, Some("[]")).await;
    assert!(reply.as_ref().is_err_and(|why| why.contains("tools/evenkeel was changed by somebody else")), "{reply:?}");
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_before_anything_is_sent() {
    let fake = Fake::start().await;
    let mut a = fake.caller(LIMIT);
    assert_eq!(ask(&mut a, "a", TTL, None).await, Ok(ours("")));
    let longest = "x".repeat(RECORD_MAX);
    assert_eq!(ask(&mut a, "a", TTL, Some(&longest)).await, Ok(ours("")));
    let reply = ask(&mut a, "a", TTL, Some(&format!("{longest}x"))).await;
    assert!(reply.as_ref().is_err_and(|why| why.contains("245761 bytes") && why.contains("parallel")), "{reply:?}");
    assert_eq!(fake.changes(), 2);
    // Those of others are not ours to know: the API server has the last word.
    fake.write(|lease| {
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert("example.com/other".to_owned(), "y".repeat(20_000));
    });
    let reply = ask(&mut a, "a", TTL, Some(&longest)).await;
    assert!(reply.as_ref().is_err_and(|why| why.contains("422") && why.contains("Too long")), "{reply:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_hangs_or_forbids_is_an_error_within_the_limit() {
    let fake = Fake::start().await;
    let limit = Duration::from_millis(300);
    let mut a = fake.caller(limit);
    let within = async |caller: &mut LeaseObject, words: &str| {
        let asked = Instant::now();
        let reply = ask(caller, "a", TTL, None).await;
        assert!(reply.as_ref().is_err_and(|why| why.contains(words)), "{words}: {reply:?}");
        assert!(asked.elapsed() < LIMIT, "{:?}", asked.elapsed());
    };
    fake.be(Mood::Hangs);
    within(&mut a, "did not answer within 300 ms").await;
    fake.be(Mood::Forbids);
    within(&mut a, "says 403: leases.coordination.k8s.io is forbidden").await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    within(&mut caller_at(&url, LIMIT / 2), "cannot be asked").await;
    assert_eq!(fake.changes(), 0);

    // It took the lease for us and did not say so: it is ours when we ask again, and with the record as it was.
    fake.write(|lease| lease.metadata.annotations = Some([(OPEN_SLOTS.to_owned(), "[old]".to_owned())].into()));
    fake.be(Mood::LosesAnswers);
    within(&mut a, "did not answer").await;
    assert_eq!(holder(&fake.lease()), Some("a"));
    fake.be(Mood::Well);
    assert_eq!(ask(&mut a, "a", TTL, None).await, Ok(ours("[old]")));
}
