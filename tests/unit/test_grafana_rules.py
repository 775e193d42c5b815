"""Alert rules: which of the agent's checks each covers, so that one fault is one message."""

from __future__ import annotations

from compose.grafana.build.rules import GROUPS
from compose.grafana.build.rules.agent import OTHERS
from compose.grafana.build.rules.asked import among
from homelab_agent.metrics import disk_health, space
from homelab_agent.metrics.probes import check_name
from homelab_agent.metrics.settings import Probe

RULES = [rule for group in GROUPS for rule in group.rules]


def test_the_rule_of_failed_checks_leaves_out_those_of_the_others_and_no_more() -> None:
    [failed] = [rule for rule in RULES if rule.name == "check-failed"]
    assert sorted(OTHERS) == sorted(check for rule in RULES for check in rule.checks)
    assert len(set(OTHERS)) == len(OTHERS)
    assert f"NOT {among(*OTHERS)}" in failed.sql


def test_who_covers_a_check_asks_for_it_or_for_what_it_is_made_of() -> None:
    asked = {rule.name for rule in RULES if "standing" in rule.sql and rule.checks}
    assert asked == {"backup-check", "gate-blocked", "secret-stale", "repository-stuck"}
    for rule in RULES:
        assert rule.name not in asked or among(*rule.checks) in rule.sql
    by_samples = {rule.name: rule.checks for rule in RULES if rule.checks and rule.name not in asked}
    assert by_samples == {
        "filesystem-fills": (space.CHECK,),
        "unit-failed": ("metrics.units",),
        "probe-down": (check_name(Probe(name="x", target="tcp://127.0.0.1:1")).removesuffix(".x"),),
        "disk-fails": (disk_health.CHECK,),
    }
