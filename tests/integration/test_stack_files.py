"""The files of compose/ are clean in the eyes of those who read them: Compose, Loki, Promtail, Alloy, shellcheck."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.neighbours import alloy, compose, loki, neighbour

STABILITY = "--stability.level=experimental"
COMPOSE = Path(__file__).parents[2] / "compose"
PROFILES = {
    "promtail": {"grafana", "loki", "postgres", "promtail"},
    "alloy": {"alloy", "grafana", "loki", "postgres"},
    "edge": {"promtail-edge"},
    "edge-alloy": {"alloy-edge"},
}


def run(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end in an environment of these variables."""
    return subprocess.run(
        argv, cwd=COMPOSE, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False
    )


def resolved(profile: str, file: Path = COMPOSE / "docker-compose.yml", **env: str) -> dict[str, Any]:
    """Return what Compose makes of the file, on a host without an .env."""
    words = ("--project-directory", COMPOSE, "--env-file", "/dev/null", "--file", file, "--profile", profile)
    done = run(compose.program(), *words, "config", "--format", "json", **env)
    assert done.returncode == 0, done.stderr
    assert "level=warning" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_has_its_services_with_pinned_images_and_bounds(profile: str) -> None:
    services = resolved(profile)["services"]
    assert set(services) == PROFILES[profile]
    for name, one in services.items():
        assert re.fullmatch(r"[a-z]+/[a-z-]+:v?[a-z0-9.-]*\d+\.\d+\.\d+", one["image"]), one["image"]
        assert (one["read_only"], one["cap_drop"], one["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
        assert int(one["mem_limit"]) >= 256 << 20
        assert {"pids_limit", "healthcheck", "stop_grace_period", "logging", "restart"} <= set(one), name
        assert all(port["host_ip"] == "127.0.0.1" for port in one.get("ports", ()))
        assert not [mount for mount in one["volumes"] if "docker.sock" in mount["source"]]
        assert not [
            value for value in one["environment"].values() if "secret" in value and "/run/secrets/" not in value
        ]


def test_an_image_is_another_when_the_environment_says_so() -> None:
    services = resolved("promtail", HOMELAB_LOKI_IMAGE="mine/loki:1.2.3", HOMELAB_LOKI_MEMORY_MB="1000")["services"]
    assert (services["loki"]["image"], int(services["loki"]["mem_limit"])) == ("mine/loki:1.2.3", 1000 << 20)


def test_go_collects_garbage_before_the_limit_ends_the_process() -> None:
    services = resolved("promtail")["services"]
    bounded = {name: one for name, one in services.items() if "GOMEMLIMIT" in one["environment"]}
    assert set(bounded) == {"loki", "grafana"}
    for one in bounded.values():
        bound = int(one["environment"]["GOMEMLIMIT"].removesuffix("MiB"))
        assert bound == (int(one["mem_limit"]) >> 20) * 85 // 100


def test_a_shipper_at_the_edge_is_the_same_but_for_where_it_sends_to() -> None:
    for profile, edge in (("promtail", "edge"), ("alloy", "edge-alloy")):
        inside, outside = resolved(profile)["services"][profile], resolved(edge)["services"][f"{profile}-edge"]
        others = {"profiles", "networks", "depends_on", "environment"}
        assert {k: v for k, v in inside.items() if k not in others} == {
            k: v for k, v in outside.items() if k not in others
        }
        assert inside["environment"].keys() == outside["environment"].keys()


def test_every_image_is_in_the_table() -> None:
    table = (COMPOSE / "README.md").read_text()
    for profile in PROFILES:
        for one in resolved(profile)["services"].values():
            assert f"| `{one['image']}` |" in table


def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text((COMPOSE / "docker-compose.yml").read_text().replace("pids_limit:", "pid_limit:"))
    with pytest.raises(AssertionError, match="pid_limit"):
        resolved("promtail", wrong)


@pytest.mark.parametrize(
    ("program", "file", "word", "break_it"),
    [
        (loki.program, "loki/loki.yaml", "-verify-config", ("delete_request_store: filesystem", "")),
        (loki.promtail, "promtail/promtail.yaml", "-check-syntax", ("scrape_configs:", "scrape:")),
    ],
    ids=["loki", "promtail"],
)
def test_loki_and_promtail_take_their_configuration(
    program: Any, file: str, word: str, break_it: tuple[str, str], tmp_path: Path
) -> None:
    def check(path: Path) -> subprocess.CompletedProcess[str]:
        words = (f"-config.file={path}", "-config.expand-env=true", word)
        return run(program(), *words, HOMELAB_LOKI_URL="http://loki:3100", HOMELAB_HOST="nas")

    done = check(COMPOSE / file)
    assert done.returncode == 0, done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text((COMPOSE / file).read_text().replace(*break_it))
    assert check(broken).returncode != 0


def test_alloy_takes_its_configuration(tmp_path: Path) -> None:
    def check(path: Path) -> subprocess.CompletedProcess[str]:
        return run(
            alloy.program(), "validate", STABILITY, path, HOMELAB_LOKI_URL="http://loki:3100", HOMELAB_HOST="nas"
        )

    file = COMPOSE / "alloy/config.alloy"
    assert STABILITY in resolved("alloy")["services"]["alloy"]["command"]
    done = check(file)
    assert done.returncode == 0, done.stderr
    broken = tmp_path / "config.alloy"
    for right, wrong in {
        "forward_to = [": "forward_to = ",
        "batch_wait": "batch_weight",
        "source.file": "source.fail",
    }.items():
        broken.write_text(file.read_text().replace(right, wrong, 1))
        assert "config.alloy:" in check(broken).stderr, wrong


def test_grafana_is_provisioned_for_these_services() -> None:
    provisioning = COMPOSE / "grafana/provisioning"
    sources = "".join(path.read_text() for path in (provisioning / "datasources").iterdir())
    services = resolved("promtail")["services"]
    for name, port in {"postgres": 5432, "loki": 3100}.items():
        assert re.search(rf"url: (http://)?{name}:{port}\n", sources)
        assert "data" in services[name]["networks"]
        assert "data" in services["grafana"]["networks"]
    [secret] = re.findall(r"\$__file\{/run/secrets/(\w+)\}", sources)
    assert secret in {one["source"] for one in services["grafana"]["secrets"]}
    mounted = {mount["target"] for mount in services["grafana"]["volumes"]}
    [path] = re.findall(r"path: (\S+)", "".join(one.read_text() for one in (provisioning / "dashboards").iterdir()))
    assert {path, "/etc/grafana/provisioning"} <= mounted


def test_scripts_are_clean() -> None:
    scripts = sorted(COMPOSE.rglob("*.sh"))
    assert len(scripts) >= 4
    done = run(neighbour.program("shellcheck", "apt install shellcheck"), *scripts)
    assert done.returncode == 0, done.stdout
