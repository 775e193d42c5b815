"""What runs in Docker beside the agent: PostgreSQL, Loki, Grafana, and who brings the logs."""
