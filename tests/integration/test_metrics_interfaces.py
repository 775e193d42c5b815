"""An interface of this host's that comes and goes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from homelab_agent.metrics.collectors.network import Network
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.settings import MetricsSettings
from tests.neighbours.neighbour import need_root, program

NAME = "homelab-agent0"


@contextmanager
def bridge() -> Iterator[None]:
    """Give this host another interface until the context ends."""
    ip = program("ip", "apt install iproute2")
    subprocess.run([ip, "link", "add", "name", NAME, "type", "bridge"], check=True)
    try:
        yield
    finally:
        subprocess.run([ip, "link", "delete", NAME], check=True)


def test_an_interface_that_comes_is_told_of_without_a_rate_and_is_gone_when_it_goes() -> None:
    need_root("a network interface")
    now = 100.0
    network = Network(Host("here", monotonic=lambda: now), MetricsSettings())

    def look() -> dict[str, object]:
        return {one.entity.label: one.values["rx_bytes_per_s"] for one in network.collect()["network"]}

    assert NAME not in look()
    with bridge():
        now += 10
        assert look()[NAME] is None
        now += 10
        assert look()[NAME] == 0
    now += 10
    assert NAME not in look()
