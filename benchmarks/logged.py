"""How long from an event of the agent's, by the journal's own stamp, until Loki, asked by its component, gives it.

Through all of the stack: journald, Promtail, Loki. An agent that is a unit is told to read its configuration anew,
which it logs, while Loki is asked again and again.
"""

from __future__ import annotations

import statistics

from benchmarks import process
from tests import stack as stacks

EVENTS = 30
ASK = """
import json, subprocess, sys, time, urllib.parse, urllib.request

QUERY = '{component="agent"} | json | event="config.reloaded"'

def newest(since):
    words = urllib.parse.urlencode({"query": QUERY, "start": since, "limit": 1, "direction": "forward"})
    with urllib.request.urlopen(f"http://127.0.0.1:3100/loki/api/v1/query_range?{words}", timeout=20) as answer:
        found = json.load(answer)["data"]["result"]
    return int(found[0]["values"][0][0]) if found else 0

for number in range(int(sys.argv[1])):
    time.sleep(0.37)  # another place in the shipper's second each time
    began = time.time_ns()
    subprocess.run(["systemctl", "kill", "--signal=HUP", "homelab-agent.service"], check=True)
    while not (at := newest(began)):
        time.sleep(0.01)
    print((time.time_ns() - at) / 1e9, flush=True)
"""


def run(*, minutes: float) -> None:
    """Bring the stack up, and measure one event after the other."""
    del minutes
    with stacks.running() as stack:
        stack.write_agent()
        stack.up()
        stack.machine.systemctl("start", "homelab-agent.service")
        stack.until_found('{component="agent"}', seconds=60)
        said = stack.machine(stacks.python(), "-c", ASK, str(EVENTS), seconds=300)
    took = sorted(map(float, said.split()))
    process.figure(f"an event until Loki finds it, median of {len(took)}", statistics.median(took), "s")
    process.figure("at worst", took[-1], "s", bound=5)
