"""Secrets from OpenBao: read with a log-in that renews itself, rotated without a restart, kept through an outage."""
