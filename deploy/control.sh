#!/bin/sh
# The installed service from day to day: `make restart`, `make status`, `make logs`.
#   TAIL=100    so many lines (logs)
#   FOLLOW=1    and those to come (logs)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/host.sh"
service=homelab-agent.service
[ -e /usr/local/bin/homelab-agent ] || fail "homelab-agent is not installed as a service here. Run: sudo make install"

case $1 in
restart)
    [ "$(id -u)" -eq 0 ] || fail "make restart needs root. Run: sudo make restart"
    systemctl restart $service || fail "It did not come up. What it said: make logs"
    say "homelab-agent is ready again."
    ;;
status)
    systemctl --no-pager --lines=0 status $service homelab-agent.socket homelab-agent-privileged.socket || :
    say ""
    exec homelab-agent status
    ;;
logs) exec journalctl --no-pager --lines="${TAIL:-100}" ${FOLLOW:+--follow} --unit=$service --unit=homelab-agent-privileged.service ;;
esac
