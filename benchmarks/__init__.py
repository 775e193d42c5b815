"""Figures, each beside a named peer or limit in the same run: `make bench`, or `make bench BENCH="start drain"`."""

from __future__ import annotations
