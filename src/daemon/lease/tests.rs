//! Stories of keepers whose lease is an object of Kubernetes. Those of a lease in a server are in `tests/live/lease.rs`.

use std::time::SystemTime;

use super::*;
use crate::cluster::fixtures::id;
use crate::journal::Process;
use crate::kubernetes::fake::{Fake, Mood};

/// Long enough that a machine with other work does not lose it.
const TTL: Duration = Duration::from_secs(2);
/// A call may take as long as until the next renewal.
const CALL: Duration = Duration::from_millis(400);
const SOON: Duration = Duration::from_secs(20);

struct Kept {
    lease: Lease,
    task: JoinHandle<()>,
    stop: CancellationToken,
    config: watch::Sender<Arc<Config>>,
    status: watch::Sender<Arc<Status>>,
}

impl Kept {
    fn start(fake: &Fake, instance: &str) -> Self {
        let mut config = Config::from_seeds(vec!["a:1".parse().unwrap()]);
        config.lease.ttl = TTL;
        config.migration.call_timeout = CALL;
        let (status, turns) = watch::channel(Arc::new(Status::first(&config, instance)));
        let (config, read) = watch::channel(Arc::new(config));
        let stop = CancellationToken::new();
        let (lease, task) =
            Lease::keep_at(Home::Kubernetes(fake.caller(CALL)), read, Some(turns), instance, stop.clone());
        let kept = Self { lease, task, stop, config, status };
        kept.turns(Duration::from_hours(1));
        kept
    }

    /// Its supervisor turns for the last time in so long, in place of again and again until then.
    fn turns(&self, last: Duration) {
        self.status.send_modify(|status| Arc::make_mut(status).turned = Instant::now() + last);
    }

    async fn until(&self, what: &str, is_so: impl FnMut(&Tenure) -> bool) -> Tenure {
        let mut tenure = self.lease.tenure.clone();
        let found = tokio::time::timeout(SOON, tenure.wait_for(is_so)).await.map(|found| found.map(|it| it.clone()));
        found.unwrap_or_else(|_| panic!("{what}: {:?}", self.lease.tenure())).expect("the keeper lives")
    }

    async fn has_it(&self) -> Ours {
        match self.until("it has the lease", |tenure| matches!(tenure, Tenure::Ours(_))).await {
            Tenure::Ours(ours) => ours,
            other @ (Tenure::NotNeeded | Tenure::Elsewhere { .. } | Tenure::Unknown { .. }) => panic!("{other:?}"),
        }
    }

    /// Whether the slots may be opened: that is answered when they are on record.
    async fn records(&self, opened: Opened) -> bool {
        let (recorded, answer) = oneshot::channel();
        self.lease.opened(opened, recorded).await;
        tokio::time::timeout(SOON, answer).await.expect("it is answered or refused").is_ok()
    }
}

fn opened(slots: &str, run_id: &str) -> Opened {
    let process = |name: &str| Process { node: id(name), run_id: run_id.to_owned() };
    Opened {
        slots: slots.parse().unwrap(),
        source: process("a"),
        target: process("b"),
        source_replicas: Vec::new(),
        target_replicas: Vec::new(),
        at: SystemTime::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn a_holder_whose_supervisor_hangs_is_succeeded_and_has_it_again_when_that_turns() {
    let fake = Fake::start().await;
    let a = Kept::start(&fake, "a");
    a.has_it().await;
    let b = Kept::start(&fake, "b");
    b.until("a has it", |tenure| matches!(tenure, Tenure::Elsewhere { .. })).await;
    a.turns(Duration::ZERO);
    b.has_it().await;
    assert!(!a.lease.may_act());
    // Who hangs does not take it either.
    let c = Kept::start(&fake, "c");
    c.until("b has it", |tenure| matches!(tenure, Tenure::Elsewhere { .. })).await;
    b.stop.cancel();
    c.has_it().await;
    a.turns(Duration::from_hours(1));
    c.turns(Duration::ZERO);
    a.until("c has it", |tenure| matches!(tenure, Tenure::Elsewhere { .. })).await;
    a.has_it().await;
}

#[tokio::test]
async fn another_takes_over_when_a_holder_renews_no_more_and_knows_what_that_one_had_open() {
    let fake = Fake::start().await;
    let a = Kept::start(&fake, "a");
    a.has_it().await;
    assert!(a.lease.may_act());
    assert!(a.records(opened("5,7-9", "r")).await);

    let b = Kept::start(&fake, "b");
    // A name alone tells nobody that its bearer lives.
    let elsewhere = b.until("a is seen to renew it", |tenure| matches!(tenure, Tenure::Elsewhere { .. })).await;
    assert!(matches!(&elsewhere, Tenure::Elsewhere { holder, .. } if holder == "a"), "{elsewhere:?}");
    assert!(a.lease.may_act() && !b.lease.may_act());

    // As a process that is killed: it says nothing to anybody.
    a.task.abort();
    let died = Instant::now();
    let last = a.lease.tenure().remaining(died).expect("there is a lease");
    let ours = b.has_it().await;
    assert!(died.elapsed() >= last, "b had it after {:?}, while a had {last:?} left", died.elapsed());
    assert!(!a.lease.may_act() && b.lease.may_act());
    assert_eq!(*ours.inherited, [opened("5,7-9", "r")]);

    // It keeps them on record until they are closed, and gives the lease back with the rest.
    assert!(b.records(opened("866", "r")).await);
    b.lease.closed(&"5,7-9".parse().unwrap()).await;
    b.stop.cancel();
    tokio::time::timeout(SOON, b.task).await.expect("it ends").expect("without a panic");
    let c = Kept::start(&fake, "c");
    assert_eq!(*c.has_it().await.inherited, [opened("866", "r")]);
}

#[tokio::test]
async fn slots_are_not_opened_while_the_api_server_is_silent_and_the_lease_runs_out() {
    let fake = Fake::start().await;
    let a = Kept::start(&fake, "a");
    a.has_it().await;
    fake.be(Mood::Hangs);
    assert!(!a.records(opened("5", "r")).await);
    a.until("it says so", |tenure| matches!(tenure, Tenure::Ours(ours) if ours.trouble.contains("did not answer")))
        .await;
    let deadline = Instant::now() + SOON;
    while a.lease.may_act() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!a.lease.may_act());
    assert!(a.lease.reason().is_some_and(|reason| reason.to_string().contains("did not answer")));
    fake.be(Mood::Well);
    a.until("it has it again", |tenure| tenure.may_act(Instant::now(), CALL)).await;
}

#[tokio::test]
async fn slots_whose_record_has_no_room_are_not_opened_and_the_lease_stays() {
    let fake = Fake::start().await;
    let a = Kept::start(&fake, "a");
    a.has_it().await;
    assert!(a.records(opened("5,6", "r")).await);
    // Of slots that are on record already: what is there stays.
    assert!(!a.records(opened("5", &"r".repeat(200_000))).await);
    assert!(a.records(opened("7", "r")).await);
    assert!(a.lease.may_act());
    a.task.abort();
    let b = Kept::start(&fake, "b");
    assert_eq!(*b.has_it().await.inherited, [opened("5,6", "r"), opened("7", "r")]);
}

#[tokio::test]
async fn an_observer_gives_it_back_and_asks_for_it_no_more() {
    let fake = Fake::start().await;
    let a = Kept::start(&fake, "a");
    a.has_it().await;
    a.config.send_modify(|config| Arc::make_mut(config).schedule.mode = Mode::Observe);
    a.until("it was given back", |tenure| matches!(tenure, Tenure::Unknown { .. })).await;
    let b = Kept::start(&fake, "b");
    b.has_it().await;
    assert!(!a.lease.may_act());
}
