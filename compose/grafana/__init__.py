"""Grafana: what it is provisioned with, and what makes that."""
