"""Makes Grafana's dashboards and alert rules: `python -m compose.grafana.build` writes them anew.

A dashboard is a module of `boards`, a group of alerts one of `rules`; both say what is asked and what it means. How
that is written down for Grafana is in the modules beside them.
"""
