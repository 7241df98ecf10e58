# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced by the scripts beside it. Sets: root, build, cache.
# Exit status: 1 refused or failed, 2 usage, 3 the environment lacks something.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${BANYAN_BUILD_DIR:-$root/build}
cache=${BANYAN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/banyan}
me=$(basename "$0")

export LC_ALL=C.UTF-8
export PYTHONDONTWRITEBYTECODE=1
# Objects are shared between clones: paths below the clone count as relative.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

# say TEXT: one line of progress.
say() {
    printf '%s: %s\n' "$me" "$*"
}

# die STATUS TRIED SEEN DO: what was tried, what was seen, what to do.
die() {
    printf '%s: %s\n  seen:  %s\n  to do: %s\n' "$me" "$2" "$3" "$4" >&2
    exit "$1"
}

# last_lines FILE: the end of a log on one line, for die.
last_lines() {
    tail -n 3 "$1" 2>/dev/null | tr '\n' ' '
}

# usage: the comment at the head of the calling script.
usage() {
    sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
}

# with_lock FILE: holds the lock until this shell ends. Two set-ups at once wait for each other.
with_lock() {
    mkdir -p "$(dirname "$1")" || die 3 "create $(dirname "$1")" "not writable" "set BANYAN_CACHE to a writable directory"
    exec 9>"$1"
    if ! flock -n 9; then
        say "waiting for another $me"
        flock 9
    fi
}

# Private apt ------------------------------------------------------------------------------------------------
# Reads packages of releases that the system's own apt does not follow, without touching its configuration: a
# sources list, package lists and a cache of our own. The mirror is the one that the system trusts already.

apt_options() {
    printf '%s\n' -q \
        -o "Dir::Etc::SourceList=$cache/apt/banyan.sources" -o Dir::Etc::SourceParts=- \
        -o "Dir::State::Lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt/cache" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o APT::Update::Post-Invoke-Success::=true -o "APT::Sandbox::User=$(id -un)"
}

# mirror_of LABEL CODENAME: the URI under which the system's apt knows that release.
mirror_of() {
    apt-get indextargets --format '$(REPO_URI) $(LABEL) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
        awk -v label="$1" -v codename="$2" '$2 == label && $3 == codename && uri == "" { uri = $1 } END { print uri }'
}

# private_apt_update: once a run; sets apt_ready.
private_apt_update() {
    [ -z "${apt_ready:-}" ] || return 0
    local mirror security keyring=/usr/share/keyrings/debian-archive-keyring.gpg log=$cache/apt/update.log
    mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial"
    mirror=${BANYAN_DEBIAN_MIRROR:-$(mirror_of Debian bookworm)}
    security=$(mirror_of Debian-Security bookworm-security)
    [ -n "$mirror" ] || die 3 "find the Debian mirror that apt uses" \
        "apt-get indextargets lists no Debian bookworm" \
        "run 'apt-get update' once, or set BANYAN_DEBIAN_MIRROR to a mirror's URI"
    [ -r "$keyring" ] || die 3 "read Debian's archive keys" "no $keyring" "install debian-archive-keyring"
    cat >"$cache/apt/banyan.sources" <<EOF
Types: deb
URIs: $mirror
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Architectures: amd64
Signed-By: $keyring

Types: deb-src
URIs: $mirror
Suites: trixie trixie-updates
Components: main
Signed-By: $keyring
EOF
    if [ -n "$security" ]; then
        cat >>"$cache/apt/banyan.sources" <<EOF

Types: deb
URIs: $security
Suites: bookworm-security
Components: main
Architectures: amd64
Signed-By: $keyring
EOF
    fi
    say "package lists: reading (private, the system's apt is left alone)"
    mapfile -t apt_opts < <(apt_options)
    if ! apt-get "${apt_opts[@]}" -o APT::Update::Error-Mode=any update >"$log" 2>&1; then
        die 3 "read Debian's package lists through a private sources list" "$(last_lines "$log")" \
            "check the network; the whole log is $log"
    fi
    apt_ready=yes
}

# Waits for nobody and says what happened: private_apt LOG DIR ARG...
private_apt() {
    local log=$1 dir=$2
    shift 2
    (cd "$dir" && apt-get "${apt_opts[@]}" "$@") >"$log" 2>&1
}
