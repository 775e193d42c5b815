"""`python -m tests.neighbours obtain|list`: bring what the tests talk to, or say what of it is here."""

from __future__ import annotations

import argparse
import os
import time

from tests.neighbours import catalogue
from tests.neighbours.neighbour import Missing


def main() -> int:
    """Run one of the two; in CI whatever cannot be had is a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.neighbours", description=__doc__)
    parser.add_argument("verb", choices=["obtain", "list"])
    verb = parser.parse_args().verb
    missing = 0
    for neighbour in catalogue.ALL:
        try:
            if verb == "obtain":
                began = time.monotonic()
                neighbour.obtain()
                if (seconds := time.monotonic() - began) > 1:
                    print(f"{neighbour.name}: obtained in {seconds:.0f} s", flush=True)
            version = neighbour.version()
        except Missing as why:
            missing += 1
            version = f"not here: {why}"
        if verb == "list" or version.startswith("not here"):
            print(f"{neighbour.name:<22} {version:<24} {neighbour.source}", flush=True)
    return 1 if missing and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    raise SystemExit(main())
