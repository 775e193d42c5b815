"""What `make install` and `make upgrade` ask of the release that they install; the scripts in `deploy/` call it."""
