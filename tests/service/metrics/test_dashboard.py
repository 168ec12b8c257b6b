"""deploy/: the dashboard and the scrape configuration name what the server really has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from slimpath.service.metrics import MISSES
from slimpath.tests.service.running import encoded, serving, settings_for

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "slimpath.json"
PAGE = ROOT / "docs" / "observability.md"
METRIC = re.compile(r"\b((?:slimpath|process|python)_[a-z_]+)(\{[^}]*\})?")
LABEL = re.compile(r"(\w+)\s*[=!]~?\s*\"")
BY = re.compile(r"\bby \(([^)]*)\)")


@pytest.fixture(scope="module")
def families(bundle: Path) -> Iterator[dict[str, set[str]]]:
    """Sample name -> its labels, of a server that has answered."""
    with serving(settings_for(bundle)) as client:
        raw = {"Inference-Header-Content-Length": "0"}
        client.post("/v2/models/tiny/infer", content=encoded(), headers=raw, params={"deadline_ms": "60000"})
        yield _families(client)


def _families(client: httpx.Client) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        # A counter that is still 0 for all its labels has no sample yet.
        found.setdefault(family.name + ("_total" if family.type == "counter" else ""), set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[str]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [
        variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    ]


def test_every_metric_of_the_dashboard_exists_with_its_labels(families: dict[str, set[str]]) -> None:
    named = 0
    for expression in expressions():
        grouped = {label.strip() for match in BY.finditer(expression) for label in match[1].split(",")}
        for name, selector in METRIC.findall(expression):
            assert name in families, expression
            labels = set(LABEL.findall(selector)) | grouped
            assert not families[name] or labels <= families[name], (expression, labels - families[name])
            named += 1
    assert named > 25


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for each in expressions() for name, _ in METRIC.findall(each)}
    from slimpath.service.metrics import Metrics

    made = {family.name for family in Metrics().registry.collect() if family.name.startswith("slimpath_")}
    assert {name.removesuffix("_total") for name in shown} >= made


def test_panels_have_ids_titles_and_places_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len({panel["id"] for panel in panels}) == len(panels) == len(set(places))
    assert all(panel["title"] and panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_metric_is_explained_in_the_docs(families: dict[str, set[str]]) -> None:
    page = PAGE.read_text()
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in families if name.startswith("slimpath_")}
    missing = sorted(name for name in ours if f"`{name}`" not in page)
    assert not missing
    explained = set(re.findall(r"`(slimpath_[a-z_]+)`", page))
    assert explained <= ours, explained - ours
    assert all(f"`{word}`" in page for word in MISSES)


def test_the_scrape_configuration_asks_for_the_page_that_there_is() -> None:
    text = (ROOT / "deploy" / "prometheus.yml").read_text()
    assert re.search(r"^\s+metrics_path: /metrics$", text, re.MULTILINE)
    assert re.search(r'targets: \["127\.0\.0\.1:8000"\]', text)
