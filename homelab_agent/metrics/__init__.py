"""Samples this host: what it reads, when, and how it becomes rows, charts and `GET /metrics`."""
