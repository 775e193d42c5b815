"""All neighbours, in the order in which `make neighbours` obtains and `make neighbours-list` shows them."""

from __future__ import annotations

from tests.neighbours import (
    alloy,
    bare,
    browser,
    compose,
    disk,
    docker,
    faketime,
    git,
    loki,
    machine,
    mariadb,
    mongodb,
    mount,
    openbao,
    payloads,
    postgres_kinds,
    restic,
    sshd,
    tailnet,
    wire,
)
from tests.neighbours.neighbour import Neighbour

ALL: tuple[Neighbour, ...] = (
    *postgres_kinds.NEIGHBOURS,
    docker.NEIGHBOUR,
    compose.NEIGHBOUR,
    machine.NEIGHBOUR,
    bare.NEIGHBOUR,
    git.NEIGHBOUR,
    payloads.NEIGHBOUR,
    sshd.NEIGHBOUR,
    wire.NEIGHBOUR,
    tailnet.NEIGHBOUR,
    mongodb.NEIGHBOUR,
    mariadb.NEIGHBOUR,
    *loki.NEIGHBOURS,
    alloy.NEIGHBOUR,
    browser.NEIGHBOUR,
    faketime.NEIGHBOUR,
    disk.NEIGHBOUR,
    mount.NEIGHBOUR,
    openbao.NEIGHBOUR,
    *restic.NEIGHBOURS,
)
