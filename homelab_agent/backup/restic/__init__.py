"""The engine `restic`: encrypted, deduplicated, anywhere restic reaches; for Debian 12's 0.14 and later.

One run's snapshots are one archive: of the sources, of each dump, and last of all `about.json`, the manifest, which
names the others. While that is not there, or one of the others is missing, the archive does not count.
"""
