#!/usr/bin/env bash
# Installs slimpath on a Jetson (JetPack 6 or 7) or another Linux of Debian's kind: an environment of its own, a user
# without rights, the services slimpath and slimpath-stream. May be run again; changes nothing that is right already.
#
#   sudo ./install.sh                          CPU, from the package index
#   sudo ./install.sh --from slimpath.whl      a wheel or a checkout
#   sudo ./install.sh --backend cuda           with ONNX Runtime for CUDA
#   ./install.sh --dry-run                     print the commands, do nothing
#
# Unverified on a Jetson: its commands were printed for recorded devices, and run on a plain Debian 12.
set -euo pipefail

PREFIX=/opt/slimpath
ACCOUNT=slimpath
BACKEND=cpu
FROM=slimpath
SERVICES=yes
DRY_RUN=no
ROOT="${SLIMPATH_INSTALL_ROOT:-}" # where /etc is looked at; tests have their own
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
    cat <<'TEXT'
usage: install.sh [--from PATH] [--backend cpu|cuda|tensorrt|openvino] [--prefix DIR] [--no-services] [--dry-run]

  --from PATH      a wheel, or a folder with pyproject.toml (default: slimpath from the package index)
  --backend NAME   what to install beside ONNX Runtime for the CPU (default: cpu)
  --prefix DIR     where to (default: /opt/slimpath)
  --no-services    no user and no systemd units
  --dry-run        print the commands, do nothing

cuda on JetPack 6 needs JETSON_INDEX in the environment: the address of NVIDIA's Jetson package index, jp6/cu126.
TEXT
}

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 2
}

say() {
    printf '==> %s\n' "$*"
}

run() {
    printf '    %s\n' "$*"
    if [[ "$DRY_RUN" == no ]]; then
        "$@"
    fi
}

while (($#)); do
    case "$1" in
    --from | --backend | --prefix) [[ -n "${2:-}" ]] || fail "$1 needs a value; see --help" ;;
    *) ;;
    esac
    case "$1" in
    --from) FROM="$2" ;;
    --backend) BACKEND="$2" ;;
    --prefix) PREFIX="$2" ;;
    --no-services) SERVICES=no ;;
    --dry-run) DRY_RUN=yes ;;
    -h | --help) usage && exit 0 ;;
    *) fail "unknown option $1; see --help" ;;
    esac
    case "$1" in
    --from | --backend | --prefix) shift 2 ;;
    *) shift ;;
    esac
done

# "jetpack6", "jetpack7", "other"; refuses what slimpath cannot run on.
platform() {
    local release="$ROOT/etc/nv_tegra_release" major
    if [[ ! -r "$release" ]]; then
        echo other
        return
    fi
    major="$(sed -n 's/^# R\([0-9]*\) (release).*/\1/p' "$release" | head -n 1)"
    case "$major" in
    36) echo jetpack6 ;;
    38 | 39) echo jetpack7 ;;
    *) fail "Linux for Tegra R${major:-?} is not supported: slimpath needs JetPack 6 or 7 (Python 3.10)" ;;
    esac
}

check() {
    case "$BACKEND" in
    cpu | cuda | tensorrt | openvino) ;;
    *) fail "--backend must be cpu, cuda, tensorrt or openvino, got $BACKEND" ;;
    esac
    [[ "$PREFIX" == /* ]] || fail "--prefix must be absolute, got $PREFIX"
    [[ "$SERVICES" == no || "$PREFIX" == /opt/slimpath ]] || fail "the units name /opt/slimpath: --prefix needs --no-services"
    [[ "$FROM" == slimpath || -e "$FROM" ]] || fail "$FROM: no such wheel or folder"
    if [[ "$BACKEND" == cuda && "$PLATFORM" == jetpack6 && -z "${JETSON_INDEX:-}" ]]; then
        fail "JetPack 6 has ONNX Runtime for CUDA in NVIDIA's Jetson package index only: set JETSON_INDEX to its address"
    fi
    if [[ "$BACKEND" == tensorrt && "$PLATFORM" == other ]]; then
        fail "this installs JetPack's TensorRT; for other machines see \`slimpath doctor --backend tensorrt\`"
    fi
    if [[ "$DRY_RUN" == no && "$(id -u)" != 0 ]]; then
        fail "needs root: sudo $0, or --dry-run to see what it would do"
    fi
}

system_packages() {
    local packages=(python3-venv)
    [[ "$BACKEND" == tensorrt ]] && packages+=(tensorrt python3-libnvinfer)
    [[ "$BACKEND" == cuda && "$PLATFORM" != other ]] && packages+=(nvidia-jetpack)
    say "system packages"
    run apt-get update -q
    run apt-get install -y -q --no-install-recommends "${packages[@]}"
}

environment() {
    say "environment in $PREFIX/venv"
    run mkdir -p "$PREFIX"
    # JetPack's Python modules (TensorRT) are the system's: the environment has to see them.
    if [[ "$PLATFORM" == other ]]; then
        run python3 -m venv "$PREFIX/venv"
    else
        run python3 -m venv --system-site-packages "$PREFIX/venv"
    fi
    local pip=("$PREFIX/venv/bin/python" -m pip --disable-pip-version-check)
    # Always a fresh copy: a new checkout may have the same version. What it needs comes only where it is missing.
    [[ "$FROM" == slimpath ]] || run "${pip[@]}" install --force-reinstall --no-deps "$FROM"
    run "${pip[@]}" install --upgrade "${FROM}[service]"
    case "$BACKEND" in
    openvino) run "${pip[@]}" install --upgrade "openvino>=2025.2" ;;
    cuda)
        # The two overwrite each other's files: one of them, never both.
        run "${pip[@]}" uninstall -y onnxruntime
        if [[ "$PLATFORM" == jetpack6 ]]; then
            run "${pip[@]}" install --force-reinstall --no-deps --index-url "${JETSON_INDEX:-}" onnxruntime-gpu
        else
            run "${pip[@]}" install --force-reinstall --no-deps "onnxruntime-gpu>=1.29,<2"
        fi
        ;;
    esac
}

account() {
    say "user $ACCOUNT"
    if ! id "$ACCOUNT" >/dev/null 2>&1; then
        run useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin "$ACCOUNT"
    fi
    local group
    for group in video render; do # cameras and GPUs; which of them there are differs
        if getent group "$group" >/dev/null; then
            run usermod --append --groups "$group" "$ACCOUNT"
        fi
    done
}

services() {
    say "services"
    run install -D -m 0644 "$HERE/notify.py" "$PREFIX/notify.py"
    run install -D -m 0644 "$HERE/slimpath.service" /etc/systemd/system/slimpath.service
    run install -D -m 0644 "$HERE/slimpath-stream.service" /etc/systemd/system/slimpath-stream.service
    if [[ ! -e "$ROOT/etc/slimpath/slimpath.env" ]]; then # the owner's settings stay
        run install -D -m 0640 "$HERE/slimpath.env" /etc/slimpath/slimpath.env
    fi
    run systemctl daemon-reload
}

diagnosis() {
    local backend=onnxruntime
    case "$BACKEND" in
    cuda) backend=onnxruntime-cuda ;;
    tensorrt | openvino) backend="$BACKEND" ;;
    esac
    say "what slimpath says of this machine"
    run "$PREFIX/venv/bin/slimpath" doctor --backend "$backend"
}

PLATFORM="$(platform)"
check
system_packages
environment
if [[ "$SERVICES" == yes ]]; then
    account
    services
fi
diagnosis
say "done; next: systemctl enable --now slimpath-stream (a camera) or slimpath (HTTP), options in /etc/slimpath/slimpath.env"
