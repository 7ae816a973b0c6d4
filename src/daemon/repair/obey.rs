//! Orders, said to the nodes: one after the other, each awaited, and repeated where a server asks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Diagnosis, Left, Repair};
use crate::cluster::{Product, Slot, SlotSet};
use crate::migration::{Mark, Order, Pair, SetSlotReply};
use crate::redis::{CallError, Conn, ServerTime};

/// How often an order that a Valkey's replicas have and it has not is said again: ten seconds, at half a second for
/// each wait of the primary.
const REPEATS: u32 = 20;
/// Before an order is repeated to a server that answered at once.
const BEFORE_REPEAT: Duration = Duration::from_millis(100);

/// Slots for which something was not done, and why.
pub(super) type Failures = BTreeMap<Slot, Left>;

impl Repair<'_> {
    /// Says these orders, in this order. What a node refuses for a slot ends that slot's orders, not the others'.
    pub(super) async fn obey(&self, orders: &[Order], slots: &SlotSet, now: &Diagnosis) -> Failures {
        let mut failures = Failures::new();
        for order in orders {
            let slots: SlotSet = slots.iter().filter(|slot| !failures.contains_key(slot)).collect();
            if slots.is_empty() {
                break;
            }
            failures.extend(self.say(*order, slots, now).await);
        }
        failures
    }

    /// Why the lease, where there is one, does not permit a call that changes something, or an owner, now.
    pub(super) fn lease_forbids(&self, owner: bool) -> Option<String> {
        let permitted = if owner { self.lease.may_finalise() } else { self.lease.may_act() };
        let reason =
            || self.lease.reason().map_or_else(|| "the lease runs out".to_owned(), |reason| reason.to_string());
        (!permitted).then(reason)
    }

    async fn say(&self, order: Order, slots: SlotSet, now: &Diagnosis) -> Failures {
        let all_failed = |slots: &SlotSet, why: &str| -> Failures {
            slots.iter().map(|slot| (slot, Left::Failed(format!("{order}: {why}")))).collect()
        };
        let observation = &now.look.observation;
        let valkey = observation.nodes[&order.at()].info.version.product == Product::Valkey;
        let conn = match self.doctor.open_bare(observation, order.at()).await {
            Ok(conn) => conn,
            Err(error) => return all_failed(&slots, &error.to_string()),
        };
        // What a node that hangs carries out when it wakes would take back what its successor has by then.
        let deadline = if order.claims() {
            match conn.time().await {
                Ok(now) => Some(now.plus(self.config.migration.migrate_timeout)),
                Err(error) => return all_failed(&slots, &error.to_string()),
            }
        } else {
            None
        };
        let (mut failures, mut slots) = (Failures::new(), slots);
        for _ in 0..REPEATS {
            if let Some(reason) = self.lease_forbids(order.assigns()) {
                failures.extend(all_failed(&slots, &reason));
                return failures;
            }
            let replies = match Box::pin(say_once(&conn, order, &slots, valkey, deadline)).await {
                Ok(replies) => replies,
                Err(error) => {
                    failures.extend(all_failed(&slots, &error.to_string()));
                    return failures;
                }
            };
            let mut again = SlotSet::new();
            for (slot, reply) in replies {
                match reply {
                    SetSlotReply::Ok => {}
                    // Its replicas have it and it has not: the same again, and nothing else before.
                    SetSlotReply::NoReplicas => drop(again.insert(slot)),
                    // One that gave its last slot away has become a replica of who has it: it knows.
                    SetSlotReply::NotPrimary if matches!(order, Order::Node { .. }) => {}
                    SetSlotReply::NotPrimary => {
                        failures.insert(slot, Left::Failed(format!("{order}: it is not a primary any more")));
                    }
                    SetSlotReply::Late => {
                        failures.insert(slot, Left::Failed(format!("{order}: it was too slow to take it safely")));
                    }
                    SetSlotReply::Refused(text) => {
                        failures.insert(slot, Left::Failed(format!("{order}: {text}")));
                    }
                }
            }
            if again.is_empty() {
                return failures;
            }
            slots = again;
            tokio::time::sleep(BEFORE_REPEAT).await;
        }
        failures.extend(all_failed(&slots, "its replicas do not follow"));
        failures
    }
}

async fn say_once(
    conn: &Conn,
    order: Order,
    slots: &SlotSet,
    valkey: bool,
    deadline: Option<ServerTime>,
) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
    let (mark, source, target) = match order {
        Order::Stable { at } => (Mark::Stable, at, at),
        Order::Node { at, owner } => (Mark::Assigned, at, owner),
        Order::Importing { at, from } => (Mark::Importing, from, at),
        Order::Migrating { at, to } => (Mark::Migrating, at, to),
        Order::AddSlot { .. } => {
            return match conn.add_slots(slots).await {
                Ok(()) => Ok(slots.iter().map(|slot| (slot, SetSlotReply::Ok)).collect()),
                Err(CallError::Refused { text, .. }) => {
                    Ok(slots.iter().map(|slot| (slot, SetSlotReply::Refused(text.clone()))).collect())
                }
                Err(error @ (CallError::NoAnswer { .. } | CallError::Unexpected { .. })) => Err(error),
            };
        }
    };
    match deadline {
        Some(deadline) if valkey => conn.assign_together_before(deadline, slots, None, target).await,
        Some(deadline) => conn.assign_before(deadline, slots, target).await,
        None => conn.set_slots(slots, mark, Pair { source, target }, valkey).await,
    }
}
