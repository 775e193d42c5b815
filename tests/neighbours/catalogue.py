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
    python3_systemd,
    restic,
    sshd,
    tailnet,
    wheels,
    wire,
)
from tests.neighbours.neighbour import Neighbour

ALL: tuple[Neighbour, ...] = (
    *postgres_kinds.NEIGHBOURS,
    docker.NEIGHBOUR,
    compose.NEIGHBOUR,
    machine.NEIGHBOUR,
    bare.NEIGHBOUR,
    wheels.NEIGHBOUR,
    python3_systemd.NEIGHBOUR,
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
