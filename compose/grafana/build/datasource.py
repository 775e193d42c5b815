"""The two sources that Grafana asks, by the fixed uids of provisioning/datasources/homelab.yaml."""

from __future__ import annotations

from collections.abc import Mapping

POSTGRES: Mapping[str, str] = {"type": "grafana-postgresql-datasource", "uid": "homelab-postgres"}
LOKI: Mapping[str, str] = {"type": "loki", "uid": "homelab-loki"}
GRAFANA: Mapping[str, str] = {"type": "grafana", "uid": "-- Grafana --"}
EXPRESSION: Mapping[str, str] = {"type": "__expr__", "uid": "__expr__"}
