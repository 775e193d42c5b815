"""The agent's own log: `log = journal.logger("spool")`, `log.warning("spool.thinned", rows=3)`.

`pipeline` leads every event, masked by `redaction` and summarised by `suppression`, as a `line` to a `sink`.
"""

from __future__ import annotations

from homelab_agent.core.journal.pipeline import Journal, Logger, bound, logger, open_journal, writes

__all__ = ["Journal", "Logger", "bound", "logger", "open_journal", "writes"]
