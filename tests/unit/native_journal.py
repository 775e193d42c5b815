"""Plays the journal's side in a mount namespace of its own; started by test_journal.py, prints what arrived."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from homelab_agent.core import journal
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.settings import LogSettings

ADDRESS = "/run/systemd/journal/socket"
log = journal.logger("spool")


def opened() -> journal.Journal:
    """Open the journal as a service would whose stderr is connected to journald."""
    status = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    return journal.open_journal(LogSettings(), host="nas", redactor=Redactor())


def listening() -> socket.socket:
    """Return journald's socket, played by us."""
    journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journald.bind(ADDRESS)
    journald.settimeout(10)
    return journald


def fields() -> object:
    """Return the one entry that arrives."""
    journald = listening()
    opening = opened()
    with journal.bound(run_id="r1"):
        log.warning("spool.thinned", rows=3, text="a\nb")
    opening.flush()
    return dict(line.split("=", 1) for line in journald.recv(65536).decode().splitlines())


def hanging() -> object:
    """Let journald stop reading while events come, then read again."""
    journald = listening()
    opening = opened()
    sent = ticks = 0
    while opening.dropped == 0 or ticks < 20:
        for _ in range(200):
            log.info("spool.thinned", table=f"table {sent}", text="x" * 1000)
            sent += 1
        ticks += 1
        time.sleep(0.001)
    received: list[str] = []

    def read() -> None:
        while "end" not in received[-1:]:
            entry = journald.recv(65536).decode()
            received.append("end" if "spool.end" in entry else "report" if "journal.dropped" in entry else "event")

    reading = threading.Thread(target=read)
    reading.start()
    opening.flush(20)
    log.info("spool.end")
    reading.join(20)
    return {"ticks": ticks, "dropped": opening.dropped, "sent": sent, "received": received.count("event")}


def absent() -> object:
    """Have no journald at all."""
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    opening = opened()
    log.info("spool.thinned")
    opening.flush()
    return {"line": os.read(reading, 65536).decode()}


def journald() -> object:
    """Start a real journald on the namespace's own directories and ask it."""
    identity = Path("/run/machine-id")
    identity.write_text("0123456789abcdef0123456789abcdef\n")
    subprocess.run(["mount", "--bind", str(identity), "/etc/machine-id"], check=True)
    with tempfile.TemporaryFile() as said:
        daemon = subprocess.Popen(["/lib/systemd/systemd-journald"], stdout=said, stderr=said)
        try:
            return asked(daemon)
        finally:
            daemon.kill()
            daemon.wait()


def asked(daemon: subprocess.Popen[bytes]) -> object:
    """Log one event and return what journalctl finds."""
    until(Path(ADDRESS).exists, daemon)
    opening = opened()
    log.warning("spool.thinned", rows=3)
    opening.flush()
    query = ["journalctl", "-D", "/run/log/journal", "-o", "json", "--no-pager", "HOMELAB_COMPONENT=spool"]
    found: list[str] = []

    def stored() -> bool:
        found[:] = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
        return bool(found)

    until(stored, daemon)
    return [json.loads(line) for line in found]


def until(condition: Callable[[], bool], daemon: subprocess.Popen[bytes]) -> None:
    """Wait until `condition()`, at most 20 s and only while `daemon` lives."""
    end = time.monotonic() + 20
    while not condition():
        if daemon.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"journald: ended with {daemon.poll()}, or took too long")
        time.sleep(0.02)


if __name__ == "__main__":
    print(json.dumps({"fields": fields, "hanging": hanging, "absent": absent, "journald": journald}[sys.argv[1]]()))
