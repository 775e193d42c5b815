#!/bin/sh
# By the port, which nobody listens on while `start.sh` still brings roles and extensions up to date.
exec pg_isready --quiet --host=127.0.0.1 --port=5432 --username=homelab --dbname=homelab
