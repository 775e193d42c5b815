"""The labels by which Docker Compose finds its containers and volumes (docker/compose, pkg/api/labels.go)."""

from __future__ import annotations

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"
"""Whether a container is one of `compose run`, which no service is; "True" or "False"."""
