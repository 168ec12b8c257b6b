#!/usr/bin/env bash
# Builds the cpu image where there is no Docker engine, from a clean Debian root, by the very Dockerfile, and runs the
# server in it as a container would: read-only root, no rights, a network of its own.
#
#   sudo deploy/check/clean_root.sh WORK [arguments of `buildah build`]
#   sudo deploy/check/transcript.sh docs/transcripts/container.txt deploy/check/clean_root.sh WORK    (keeps what it says)
#
# WORK is a folder of some 3 GB. Needs root, buildah, debootstrap, iproute2, jq and a package index. Where pip needs
# settings of this machine, lend it a file: --volume /path/to/pip.conf:/etc/pip.conf:ro (it does not stay in the image).
#
# The base image is not pulled: Debian 12's minimal system is made by debootstrap and imported under the base image's
# name. Against debian:bookworm-slim it has some more documentation, and the same packages.
set -euo pipefail

work=$(realpath -m "${1:?usage: clean_root.sh WORK [arguments of buildah build]}")
shift
tree=$(cd "$(dirname "$0")/../.." && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
image=localhost/slimpath:cpu

say() { printf '\n== %s ==\n' "$*"; }

# buildah keeps its images in WORK alone.
storage() {
    mkdir -p "$work"
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/images" "$work/run" > "$work/storage.conf"
    export CONTAINERS_STORAGE_CONF=$work/storage.conf BUILDAH_ISOLATION=chroot
}

base_image() {
    buildah inspect --type image docker.io/library/debian:bookworm-slim > /dev/null 2>&1 && return
    debootstrap --variant=minbase bookworm "$work/base" "$mirror" > "$work/debootstrap.log"
    local container
    container=$(buildah from scratch)
    tar -C "$work/base" --create . > "$work/base.tar"
    buildah add --quiet "$container" "$work/base.tar" / > /dev/null
    buildah commit --quiet --rm "$container" docker.io/library/debian:bookworm-slim > /dev/null
    rm -rf "$work/base" "$work/base.tar"
}

build() {
    buildah build --pull-never --layers --format docker --target cpu --tag "$image" --logfile "$work/build.log" "$@" "$tree"
    grep --text -E '^\[.*STEP' "$work/build.log"
}

# One list of the image's configuration, a line an entry.
configured() { buildah inspect --type image "$image" | jq --raw-output ".Docker.config.$1"; }

promises() {
    echo "user $(configured User), health check $(configured 'Healthcheck.Test | join(" ")')"
    echo "starts $(configured 'Entrypoint | join(" ")') $(configured 'Cmd | join(" ")')"
    echo "$(du --summarize --block-size=1M "$root" | cut -f1) MB unpacked, of which $(du -sm "$root/opt/slimpath" | cut -f1) MB are slimpath and its libraries"
    local tools
    tools=$(find "$root" -xdev \( -type f -o -type l \) -path '*bin/*' \
        -regextype posix-extended -regex '.*/(cc|c\+\+|gcc|g\+\+|clang|ld|as|make|cmake|ninja|git|pip|pip3|curl|wget)(-[0-9.]+)?')
    [ -z "$tools" ] || { echo "build tools in the last stage: $tools"; exit 1; }
    echo "no compiler, linker, make, git, pip, curl or wget in it"
}

# The container: namespaces of its own for mounts, processes and network; root read-only, /tmp and the cache writable; the
# image's environment, user and command, without capabilities and without a way to regain them.
run_container() {
    local user
    user=$(configured User)
    local -a environment command
    mapfile -t environment < <(configured 'Env[]')
    mapfile -t command < <(configured 'Entrypoint[], .Docker.config.Cmd[]')
    install -d -o "${user%:*}" -g "${user#*:}" "$work/cache"
    # shellcheck disable=SC2016  # expanded by the inner shell
    unshare --mount --pid --net --fork --kill-child bash -c '
        set -euo pipefail
        root=$1 cache=$2 checks=$3
        shift 3
        ip link set lo up
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/tmp"
        cp "$checks"/* "$root/tmp/"
        mount --bind "$cache" "$root/var/cache/slimpath"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        for device in null zero random urandom; do
            touch "$root/dev/$device"
            mount --bind "/dev/$device" "$root/dev/$device"
        done
        exec chroot "$root" "$@"
    ' run "$root" "$work/cache" "$work/checks" \
        /usr/bin/env --ignore-environment "${environment[@]}" \
        /usr/bin/setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --bounding-set=-all --inh-caps=-all \
        --no-new-privs python3 /tmp/container_probe.py "${command[@]}"
}

storage
say "build"
base_image
build "$@"
container=$(buildah from --pull-never "$image")
trap 'buildah rm "$container" > /dev/null' EXIT
root=$(buildah mount "$container")
say "image"
promises
say "run"
rm -rf "$work/checks"
mkdir "$work/checks"
cp "$tree/deploy/check/container_probe.py" "$work/checks/"
cp "$tree/assets/synthrooms_scene.npz" "$work/checks/"
run_container
