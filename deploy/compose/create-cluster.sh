#!/bin/sh
# Makes a cluster with work for evenkeel: three primaries with a replica each, all slots and 20,000 keys at two of them.
#
#     create-cluster.sh ADDRESS ADDRESS ADDRESS ADDRESS ADDRESS ADDRESS
#
# The first three become the primaries, the others their replicas in the same order; all listen at port 6379. May be run
# again: what is done is left alone, and where there are three replicas all is done.
set -eu

call() {
    address=$1
    shift
    valkey-cli -e -h "$address" "$@"
}

# Asks once a second until the answer is yes, for a minute at most.
eventually() {
    tries=60
    until "$@"; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            echo "create-cluster.sh: not so within a minute: $*" >&2
            exit 1
        fi
        sleep 1
    done
}

has_three_replicas() { [ "$(call "$1" cluster nodes | grep -c slave)" = 3 ]; }
has_no_slots() { call "$1" cluster info | grep -q cluster_slots_assigned:0; }
knows_all() { [ "$(call "$1" cluster nodes | grep -c -v -e handshake -e noaddr)" = 6 ]; }
serves() { call "$1" cluster info | grep -q cluster_state:ok; }
follows() { call "$1" info replication | grep -q master_link_status:up; }

if [ $# != 6 ]; then
    echo "usage: create-cluster.sh with six addresses" >&2
    exit 64
fi
if has_three_replicas "$1"; then
    echo "the cluster is there"
    exit
fi

# Before they meet: afterwards each counts the slots of all.
if has_no_slots "$1"; then
    call "$1" cluster addslotsrange 0 8191
fi
if has_no_slots "$2"; then
    call "$2" cluster addslotsrange 8192 16383
fi
for other in "$2" "$3" "$4" "$5" "$6"; do
    call "$1" cluster meet "$other" 6379
done
for node in "$@"; do
    eventually knows_all "$node"
    eventually serves "$node"
done

awk 'BEGIN { for (i = 0; i < 20000; i++) printf "SET key:%d %064d\n", i, i }' | valkey-cli -c -h "$1" >/dev/null

call "$4" cluster replicate "$(call "$1" cluster myid)"
call "$5" cluster replicate "$(call "$2" cluster myid)"
call "$6" cluster replicate "$(call "$3" cluster myid)"
for replica in "$4" "$5" "$6"; do
    eventually follows "$replica"
done
eventually has_three_replicas "$1"
