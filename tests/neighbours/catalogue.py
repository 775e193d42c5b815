"""All neighbours, in the order in which `make neighbours` obtains and `make neighbours-list` shows them."""

from __future__ import annotations

from tests.neighbours import (
    browser,
    compose,
    disk,
    docker,
    faketime,
    git,
    mount,
    payloads,
    postgres,
    sshd,
    wire,
)
from tests.neighbours.neighbour import Neighbour

ALL: tuple[Neighbour, ...] = (
    *postgres.ENTRIES,
    docker.NEIGHBOUR,
    compose.NEIGHBOUR,
    git.NEIGHBOUR,
    payloads.NEIGHBOUR,
    sshd.NEIGHBOUR,
    wire.NEIGHBOUR,
    browser.NEIGHBOUR,
    faketime.NEIGHBOUR,
    disk.NEIGHBOUR,
    mount.NEIGHBOUR,
)
