"""`python -m homelab_agent` is `homelab-agent`."""

from __future__ import annotations

from homelab_agent.cli import main

main()
