#!/bin/bash
# Start Alloy where Promtail has stopped, whenever Promtail was the last to ship from this volume.
# Alloy 1.19 converts Promtail's positions itself, but for the journal's: that one it notes under the labels {}, looks
# for it under none, and ships the last seven days again.
set -eu
theirs=/var/lib/promtail/positions.yaml
journal=/var/lib/promtail/alloy/loki.source.journal.journal
files=/var/lib/promtail/alloy/loki.source.file.docker

if [ "$theirs" -nt "$journal/positions.yml" ]; then
    cursor=
    while IFS= read -r line; do
        case $line in *cursor-journal:\ *) cursor=${line#*cursor-journal: } ;; esac
    done <"$theirs"
    if [ -n "$cursor" ]; then
        rm -f "$files/positions.yml" # which it makes of Promtail's
        mkdir -p "$journal"
        printf 'positions:\n  ? path: cursor-loki.source.journal.journal\n    labels: ""\n  : %s\n' "$cursor" >"$journal/new"
        mv "$journal/new" "$journal/positions.yml"
    fi
fi
exec /bin/alloy "$@"
