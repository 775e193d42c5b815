"""The engine `archive`: a set becomes one file of GNU tar in zstd, which anybody with these two programs can read."""
