#!/usr/bin/env bash
# Runs the runtime's tests on aarch64, under user-mode emulation, and compares the answers of the bundled model there with
# those of this machine.
#
#   sudo deploy/check/aarch64.sh WORK [pytest arguments]
#   sudo deploy/check/aarch64.sh WORK -n 2 tests/runtime tests/cli    (two processes; the command line's tests, too)
#   sudo deploy/check/transcript.sh docs/transcripts/aarch64.txt deploy/check/aarch64.sh WORK    (keeps what it says)
#
# WORK is a folder of some 1.5 GB that is made once and used again: an arm64 Debian root, wheels for aarch64, logs. Needs
# Debian or Ubuntu on x86-64, root, debootstrap, a package index, python3.11 with pip, setuptools, scikit-image and
# slimpath (PYTHON names it; the root's Python is 3.11, too, and takes the wheels as they are unpacked here), and a
# statically linked qemu-aarch64 (QEMU names it) of version 10 or newer, such as Debian 13's package qemu-user: under 7.2,
# Debian 12's, loading ONNX Runtime crashes or hangs.
set -euo pipefail

work=$(realpath -m "${1:?usage: aarch64.sh WORK [pytest arguments]}")
shift
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$tree/.venv/bin/python}
qemu=${QEMU:-$(command -v qemu-aarch64-static || command -v qemu-aarch64)}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
root=$work/root
packages=$root/usr/local/lib/python3.11/dist-packages # where Debian's Python looks first

# The first bytes of a 64-bit little-endian ELF file for aarch64, and which bits of them count.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'

# What emulation itself cannot do; everything else runs.
runtime=tests/runtime
not_here=(
    # The emulator makes up /proc/self/smaps, and every size in it is 0.
    --deselect "$runtime/footprint/test_memory.py::test_only_pages_that_were_read_are_touched"
    # Its own memory, translated code above all, counts as the process's, whose peak has a bound.
    --deselect "$runtime/footprint/test_residency.py::test_model_whose_experts_do_not_fit_into_memory_answers"
    # A program that crashes has the last word, but for the emulator's own.
    --deselect "$runtime/tensorrt/test_compiling.py::test_process_that_dies_is_told_of_and_leaves_nothing[crashes-the build crashed with SIGSEGV: the last words of a library]"
    # An emulated core is some ten times slower than the one around it.
    --deselect "$runtime/test_import.py::test_import_takes_less_than_0_4_s"
)

say() { printf '\n== %s ==\n' "$*"; }

# A command inside the root, in mount and process namespaces of its own: nothing stays mounted, nothing goes on running.
inside() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    unshare --mount --pid --fork --kill-child bash -c '
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t sysfs -o ro sysfs "$root/sys"
        # neoverse-n1: of the generation of the Cortex-A78AE in a Jetson Orin. CI: hypothesis then sets no time limits.
        exec chroot "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb \
            QEMU_CPU=neoverse-n1 CI=1 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 SLIMPATH_CACHE=/tmp/cache "$@"
    ' inside "$root" "$@"
}

# The kernel hands programs for aarch64 to the emulator. F in the flags: it keeps the emulator open, so that the root needs
# no copy of it. P and O: programs keep their own name, and files that only they can read.
emulation() {
    local registry=/proc/sys/fs/binfmt_misc
    [ -e "$registry/register" ] || mount -t binfmt_misc binfmt_misc "$registry"
    [ ! -e "$registry/slimpath-aarch64" ] || echo -1 > "$registry/slimpath-aarch64"
    printf '%s' ":slimpath-aarch64:M::$magic:$mask:$qemu:OPF" > "$registry/register"
}

make_root() {
    [ -e "$work/root.made" ] && return
    rm -rf "$root"
    debootstrap --arch=arm64 --variant=minbase --include=python3 bookworm "$root" "$mirror" > "$work/debootstrap.log"
    touch "$work/root.made"
}

# pip runs here, for the other machine: emulated it would take an hour, and give the same files.
install_wheels() {
    rm -rf "$packages" "$work/wheel"
    mkdir -p "$packages" "$work/wheel"
    local source=$work/source
    rm -rf "$source"
    mkdir -p "$source"
    tar -C "$tree" --exclude='./.*' --exclude=./build --exclude=./dist --exclude=./runs --exclude='*.egg-info' \
        --exclude=__pycache__ --create . | tar -C "$source" --extract # setuptools leaves its build folder in a copy
    "$python" -m pip wheel -qq --no-deps --no-build-isolation --wheel-dir "$work/wheel" "$source"
    "$python" -m pip install -qq --target "$packages" --only-binary :all: --no-warn-conflicts \
        --python-version 3.11 --implementation cp --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        "$work"/wheel/slimpath-*.whl "scikit-image>=0.22" \
        "pytest>=8.3" "pytest-xdist>=3.6" "hypothesis>=6.100" "psutil>=5.9" "onnx>=1.23" "safetensors>=0.4.3"
    # The tests, and the benchmarks that some of them start, lie where they do in the tree, inside the package; the package
    # itself is the wheel.
    cp -r "$source/tests" "$source/benchmarks" "$source/pyproject.toml" "$packages/slimpath/"
}

versions() {
    inside uname --machine
    inside python3 -c '
import importlib.metadata, platform
print("Python", platform.python_version(), "glibc", platform.libc_ver()[1])
for name in ("slimpath", "numpy", "onnxruntime", "opencv-python-headless", "msgspec"):
    print(name, importlib.metadata.version(name))'
    "$qemu" --version | head -1
}

answers() {
    rm -rf "$work/pictures" "$work/here" "$root/pictures" "$root/there"
    "$python" "$tree/deploy/check/same_answers.py" pictures "$work/pictures"
    cp -r "$work/pictures" "$root/pictures"
    local asked width picture
    for asked in 0.25:room 0.25:astronaut 1:room; do # an emulated core does some 0.1 GFLOPs a second, so not all of them
        width=${asked%:*} picture=${asked#*:}
        "$python" -m slimpath run "$work/pictures/$picture.png" --budget "width=$width" --raw npz --no-panel --out "$work/here/$width"
        inside python3 -m slimpath run "/pictures/$picture.png" --budget "width=$width" --raw npz --no-panel --out "/there/$width"
    done
    "$python" "$tree/deploy/check/same_answers.py" compare "$work/here" "$root/there"
}

mkdir -p "$work"
say "emulation, root, wheels"
emulation
make_root
install_wheels
say "versions"
versions
say "slimpath run of the bundled model: aarch64 against $(uname --machine)"
answers
say "tests"
# shellcheck disable=SC2016  # expanded inside
inside sh -c 'cd "$1" && shift && exec python3 -m pytest -q -rfE -p no:cacheprovider "$@"' pytest "${packages#"$root"}/slimpath" \
    "${not_here[@]}" "${@:-tests/runtime}"
say "slimpath doctor"
inside python3 -m slimpath doctor || echo "exit code $?"
