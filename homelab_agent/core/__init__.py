"""What every capability stands on; imports no capability, no aiohttp, no asyncpg."""

from __future__ import annotations
