"""The status page for a browser: made on the server, live by server-sent events, whole without JavaScript."""

from __future__ import annotations
