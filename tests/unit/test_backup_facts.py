"""What is told of all sets at once."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from homelab_agent.backup.facts import Facts, Gauges


def test_off_site_is_a_house_of_which_every_set_has_a_copy_elsewhere() -> None:
    assert not Facts().is_offsite
    assert not Facts(sets=2, offsite=1).is_offsite
    assert Facts(sets=2, offsite=2).is_offsite


def test_they_are_one_line_that_names_who_stood_still_longest() -> None:
    said = str(Facts(sets=3, done=2, offsite=0, frozen_ms={"a": {"web": 5}, "b": {"db": 812, "app": 9}}))
    assert said == "2 of 3 sets in 24 h, off-site: no, longest still: db, 812 ms"
    assert str(Facts(sets=1, done=1, offsite=1)) == "1 of 1 sets in 24 h, off-site: yes"


def test_a_container_that_is_in_no_run_any_more_has_no_gauge() -> None:
    registry = CollectorRegistry()
    gauges = Gauges(registry)
    gauges.show(Facts(sets=1, frozen_ms={"a": {"web": 5}}))
    assert registry.get_sample_value("homelab_agent_backup_frozen_seconds", {"set": "a", "container": "web"}) == 0.005
    gauges.show(Facts(sets=1, done=1, frozen_ms={"a": {"app": 5}}))
    assert registry.get_sample_value("homelab_agent_backup_frozen_seconds", {"set": "a", "container": "web"}) is None
    assert registry.get_sample_value("homelab_agent_backup_sets_done") == 1
