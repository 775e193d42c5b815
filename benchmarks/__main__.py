"""Run the benchmarks named on the command line, or all of them."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys

NAMES = (
    "start",
    "service",
    "day",
    "drain",
    "imports",
    "queries",
    "scrape",
    "rest",
    "families",
    "written",
    "storage",
    "gitops_sync",
    "webhooks",
    "gate",
    "gate_agent",
    "secrets",
    "reading",
    "backup",
    "backup_restic",
    "dashboards",
    "logged",
)


def main() -> None:
    """Run and print; a benchmark whose peer is missing says so and goes on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(NAMES)}")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="length of `rest` and `written` after their warm-up, and of `day`"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    print(f"{platform.machine()}, Python {platform.python_version()}, Linux {platform.release()}")
    for name in options.names or NAMES:
        print(f"\n## {name}")
        sys.stdout.flush()
        importlib.import_module(f"benchmarks.{name}").run(minutes=options.minutes)


main()
