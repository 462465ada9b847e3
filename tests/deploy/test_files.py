"""What stands in deploy/, judged by the programs that it is for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from parastream.server.config import FIELDS, ServerConfig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program; skip the test where it is not installed."""
    if shutil.which(program) is None and not os.environ.get("CI"):
        pytest.skip(f"there is no {program}")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"parastream_\w+", text))


def documented() -> set[str]:
    """The metrics that there are; of histograms, the series that they consist of."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    found: set[str] = set()
    for name, kind in re.findall(r"^\| `(parastream_\w+)` \| (\w+) \|", text, re.MULTILINE):
        found |= {f"{name}_{each}" for each in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


@pytest.mark.process
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_knows_every_field(manifest: Path) -> None:
    result = run("kubernetes-validate", "--strict", manifest)
    assert result.returncode == 0, result.stderr


def test_the_manifests_fit_the_server() -> None:
    (stateful,) = (yaml.safe_load(path.read_text()) for path in MANIFESTS if path.stem == "statefulset")
    (service,) = (yaml.safe_load(path.read_text()) for path in MANIFESTS if path.stem == "service")
    pod, config = stateful["spec"]["template"]["spec"], ServerConfig()
    assert pod["terminationGracePeriodSeconds"] > config.drain_timeout + config.close_timeout
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    settings = {each["name"].removeprefix("PARASTREAM_").lower() for each in container["env"]}
    assert settings <= set(FIELDS)
    assert container["ports"][0]["containerPort"] == config.port == service["spec"]["ports"][0]["port"]


@pytest.mark.process
def test_the_containerfile() -> None:
    result = run("hadolint", DEPLOY / "Containerfile")
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.process
def test_the_systemd_unit(tmp_path: Path) -> None:
    """systemd-analyze succeeds with keys that it does not know, and only says so."""
    unit = (DEPLOY / "parastream.service").read_text()
    timeouts = ServerConfig().drain_timeout + ServerConfig().close_timeout
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > timeouts
    path = tmp_path / "parastream.service"
    path.write_text(unit.replace("/opt/parastream/bin/parastream", "/bin/true"))
    result = run("systemd-analyze", "verify", path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.process
def test_the_configuration_of_nginx(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(f"pid {tmp_path}/pid; error_log stderr;\n{(DEPLOY / 'nginx.conf').read_text()}")
    result = run("nginx", "-t", "-q", "-c", path)
    assert (result.returncode, result.stderr) == (0, "")


def test_alerts_and_dashboard_are_about_metrics_that_there_are() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    expressions = [rule["expr"] for rule in rules]
    panels = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    assert metrics_in(" ".join(expressions)) - documented() == set()
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)
