//! Moving a slot by hand, step by step: to prove the harness, and to leave a slot half-moved for evenkeel to find.

use evenkeel::cluster::Slot;

use super::cluster::Cluster;
use super::node::Node;

/// How long one `MIGRATE` may wait for the other node, in milliseconds.
const MIGRATE_TIMEOUT_MS: &str = "5000";

impl Cluster {
    /// Opens a slot: marks it importing at `to`, then migrating at `from`.
    pub(crate) fn open_slot(&self, slot: Slot, from: Node, to: Node) {
        let (slot, from_id, to_id) = (slot.to_string(), self.node_id(from).to_string(), self.node_id(to).to_string());
        self.cmd::<()>(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        self.cmd::<()>(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    }

    /// Moves up to `limit` keys of an open slot's first database; returns how many were moved.
    pub(crate) fn migrate_keys(&self, slot: Slot, from: Node, to: Node, limit: usize) -> usize {
        let (slot, limit) = (slot.to_string(), limit.to_string());
        let keys: Vec<Vec<u8>> = self.cmd(from, &["CLUSTER", "GETKEYSINSLOT", &slot, &limit]);
        if keys.is_empty() {
            return 0;
        }
        let target = self.announced(to);
        let port = target.port.to_string();
        let mut args: Vec<&[u8]> = vec![b"MIGRATE", target.host.as_bytes(), port.as_bytes(), b"", b"0"];
        args.push(MIGRATE_TIMEOUT_MS.as_bytes());
        if let Some(password) = self.password() {
            args.extend([b"AUTH".as_slice(), password.as_bytes()]);
        }
        args.push(b"KEYS");
        args.extend(keys.iter().map(Vec::as_slice));
        self.cmd::<()>(from, &args);
        keys.len()
    }

    /// Gives an open slot that `from` holds no more key of to `to`: target first, then source.
    pub(crate) fn finish_slot(&self, slot: Slot, from: Node, to: Node) {
        assert_eq!(self.keys_in(from, slot), 0, "keys of slot {slot} that are still at {}", self.name(from));
        let (slot, to_id) = (slot.to_string(), self.node_id(to).to_string());
        for node in [to, from] {
            self.cmd::<()>(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }

    /// Moves a slot as a whole.
    pub(crate) fn move_slot(&self, slot: Slot, from: Node, to: Node) {
        self.open_slot(slot, from, to);
        while self.migrate_keys(slot, from, to, 100) > 0 {}
        self.finish_slot(slot, from, to);
    }
}
