#!/usr/bin/env bash
# Runs a check of this folder and keeps what it printed, with the command, the date, the machine, the time it took and its
# exit code, but without addresses and paths of this machine.
#
#   deploy/check/transcript.sh FILE CHECK WORK [arguments]
#   sudo deploy/check/transcript.sh docs/transcripts/container.txt deploy/check/clean_root.sh /var/tmp/container
#
# FILE appears when the check has ended, whatever its exit code, which is this script's, too. In it the folder WORK is
# called WORK, the repository TREE, a file that an argument names by its last part, and every URL URL.
set -euo pipefail

file=$(realpath -m "${1:?usage: transcript.sh FILE CHECK WORK [arguments]}")
check=${2:?usage: transcript.sh FILE CHECK WORK [arguments]}
work=$(realpath -m "${3:?usage: transcript.sh FILE CHECK WORK [arguments]}")
tree=$(cd "$(dirname "$0")/../.." && pwd)
shift 3

escaped() { printf '%s' "$1" | sed 's/[][\.*^$#/]/\\&/g'; }

# What must not be read here: paths of this machine, hosts.
clean() {
    local -a rules=(-e "s#$(escaped "$work")#WORK#g" -e "s#$(escaped "$tree")#TREE#g" -e 's#[a-z]+://[^ "]+#URL#g')
    local argument path
    for argument in "$@"; do
        path=${argument#*=}
        path=${path%%:*} # what a volume is called inside is no path of this machine
        [[ $path != /?*/* ]] || rules+=(-e "s#$(escaped "$path")#${path##*/}#g")
    done
    sed --unbuffered --regexp-extended "${rules[@]}" -e 's#\x1b\[[0-9;]*[A-Za-z]##g' -e 's#.*\r##'
}

machine() {
    local model
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    # shellcheck source=/dev/null
    echo "$(. /etc/os-release && echo "$PRETTY_NAME"), $(uname --machine), ${model:-unknown processor}, $(getconf _NPROCESSORS_ONLN) cores"
}

mkdir -p "$(dirname "$file")"
part=$file.part
trap 'rm -f "$part"' EXIT
started=$SECONDS
{
    echo "\$ sudo deploy/check/$(basename "$check") WORK${*:+ $*}" | clean "$@"
    printf '\n%s; %s\n' "$(date '+%-d %B %Y')" "$(machine)"
} | tee "$part"
code=0
"$check" "$work" "$@" 2>&1 < /dev/null | clean "$@" | tee -a "$part" || code=$?
printf '\nexit code %d after %d minutes\n' "$code" $(((SECONDS - started + 59) / 60)) | tee -a "$part"
mv "$part" "$file"
exit "$code"
