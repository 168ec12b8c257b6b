"""docs/service.md and docs/security.md: settings and codes are up to date, and what is named exists."""

from __future__ import annotations

import re
from pathlib import Path

import slimpath
from slimpath.service.settings_page import PAGE, with_table

ROOT = Path(slimpath.__file__).resolve().parent
SECURITY = ROOT / "docs" / "security.md"


def test_the_table_of_settings_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_table(text), "run `python -m slimpath.service.settings_page`"
    assert "`limits.max_body_mib`" in text


def test_every_test_that_the_security_page_names_exists() -> None:
    text = SECURITY.read_text(encoding="utf-8")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", text))
    assert len(names) > 40
    assert [name for name in sorted(names) if f"def {name}(" not in sources] == []


def test_every_file_that_the_security_page_names_exists() -> None:
    text = SECURITY.read_text(encoding="utf-8")
    for name in re.findall(r"`([\w/]+\.py)`", text):
        places = (ROOT / name, ROOT / "tests" / "service" / name, ROOT / "tests" / "runtime" / "bundles" / name)
        assert any(place.is_file() for place in places), name


def test_every_code_of_an_error_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    service = ROOT / "service"
    paths = [path for path in service.rglob("*.py") if "v2" not in path.parts]  # whose errors are sentences alone
    sources = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    raised = re.findall(r'(?:HttpError\(|_refuse\(|_unauthorised\()\s*(?:\d{3}, )?"(\w+)"', sources)
    mapped = re.findall(r'\(\w+, \d{3}, "(\w+)"\)', (service / "problems.py").read_text(encoding="utf-8"))
    assert len(raised) > 10 and len(mapped) > 8
    assert [code for code in sorted({*raised, *mapped}) if f"`{code}`" not in page] == []
