"""Backups of what containers keep, each proven by reading it back, and in turns by restoring it.

The agent decides what is due, keeps the catalogue and tells how it stands; the root half reads volumes, freezes
containers and stores. What it froze it wrote down before, so that whatever ends it, the containers run again.
"""
