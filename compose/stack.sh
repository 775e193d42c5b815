#!/bin/sh
# The life of the stack beside this file: up, down, ps, pull, restart, logs. `make` calls it.
#   PROFILE=promtail|alloy|edge  what ships logs; kept in .env (edge: only that, to another host's Loki)
#   LOKI_URL=http://HOST:3100    where to, for edge; kept in .env
#   SERVICE=NAME                 only this one, or these (up, restart, logs)
#   FORCE=1                      start although there is little memory
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
env_file=$here/.env
secrets=$here/secrets
least_mib=2048

say() { printf '%s\n' "$*"; }
fail() {
    say "$1" >&2
    shift
    for line; do say "  $line" >&2; done
    exit 1
}

released() { sed -n "s/^$1=//p" /etc/os-release 2>/dev/null | tr -d '"'; }

install_line() { # what brings Docker and Compose 2 here
    case $(released ID) in
    ubuntu) say "sudo apt-get install -y docker.io docker-compose-v2" ;;
    raspbian) say "Raspberry Pi OS with 64 bits: these images are not made for 32" ;;
    debian) # Raspberry Pi OS with 64 bits says debian, too
        if [ "$(released VERSION_ID)" -ge 13 ] 2>/dev/null; then
            say "sudo apt-get install -y docker.io docker-cli docker-compose"
        else # Debian 12 and what is made of it has Compose 1 only
            say "Docker's own packages, docker-ce and docker-compose-plugin: https://docs.docker.com/engine/install/debian/"
        fi ;;
    *) say "Docker and its Compose plugin: https://docs.docker.com/engine/install/" ;;
    esac
}

compose() { docker compose --project-directory "$here" --file "$here/docker-compose.yml" "$@"; }
# Whatever was started by another profile is meant, too.
compose_all() { compose --profile promtail --profile alloy --profile edge "$@"; }

check_docker() {
    command -v docker >/dev/null || fail "Docker is not installed. Install:" "$(install_line)"
    if ! said=$(docker version --format '{{.Server.Version}}' 2>&1); then
        case $said in
        *"permission denied"*) fail "You may not talk to Docker. Run:" "sudo usermod -aG docker $(id -un) # then log in anew; whoever may is root here" ;;
        *) fail "Docker does not answer: $said. Run:" "sudo systemctl enable --now docker" ;;
        esac
    fi
    docker_version=$said
    version=$(docker compose version --short 2>/dev/null || :)
    at_least "${version#v}" 2 20 ||
        fail "Docker Compose 2.20 or newer is needed; here is ${version:-none}. Install:" "$(install_line)"
}

at_least() { # $1 is a version of at least $2.$3
    major=${1%%.*}
    rest=${1#*.}
    minor=${rest%%.*}
    case $major$minor in "" | *[!0-9]*) return 1 ;; esac
    [ "$major" -gt "$2" ] || { [ "$major" -eq "$2" ] && [ "$minor" -ge "$3" ]; }
}

check_memory() {
    [ -z "$(compose_all ps --quiet 2>/dev/null)" ] || return 0 # what runs already has its memory
    free=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
    if [ "$free" -ge "$least_mib" ] || [ "$profile" = edge ]; then return 0; fi
    [ -z "${FORCE:-}" ] || { say "There are $free MiB of memory free, less than $least_mib: forced."; return 0; }
    fail "There are $free MiB of memory free; the stack wants $least_mib." \
        "Ship this host's logs to another host's Loki instead:  make up PROFILE=edge LOKI_URL=http://HOST:3100" \
        "Or start it all the same:                             make up FORCE=1"
}

check_journal() {
    journal=$(setting HOMELAB_JOURNAL)
    [ ! -d "${journal:-/var/log/journal}" ] || return 0
    fail "There is no ${journal:-/var/log/journal}: this host's journal is in memory only, where the shipper cannot read it. Run:" \
        "sudo mkdir -p /etc/systemd/journald.conf.d" \
        "printf '[Journal]\nStorage=persistent\n' | sudo tee /etc/systemd/journald.conf.d/99-persistent.conf # Raspberry Pi OS says volatile" \
        "sudo systemctl restart systemd-journald && sudo journalctl --flush"
}

setting() { sed -n "s/^$1=//p" "$env_file" 2>/dev/null | tail -n 1; }

set_setting() { # in .env, whole or not at all
    { grep -v "^$1=" "$env_file" 2>/dev/null || :; say "$1=$2"; } >"$env_file.new"
    mv "$env_file.new" "$env_file"
}

settle() { # .env: what this host is, and what was chosen
    [ -e "$env_file" ] || say "# Of this host. docker-compose.yml and README.md say what may stand here." >"$env_file"
    [ -n "$(setting HOMELAB_HOST)" ] || set_setting HOMELAB_HOST "$(uname -n)"
    if [ -z "$(setting HOMELAB_DOCKER_ROOT)" ]; then
        set_setting HOMELAB_DOCKER_ROOT "$(docker info --format '{{.DockerRootDir}}')"
    fi
    profile=${PROFILE:-$(setting COMPOSE_PROFILES)}
    profile=${profile:-promtail}
    case $profile in
    promtail | alloy) ;;
    edge)
        [ -z "${LOKI_URL:-}" ] || set_setting HOMELAB_LOKI_URL "${LOKI_URL%/}"
        [ -n "$(setting HOMELAB_LOKI_URL)" ] ||
            fail "Where is the other host's Loki? Run:" "make up PROFILE=edge LOKI_URL=http://HOST:3100" ;;
    *) fail "PROFILE is promtail, alloy or edge, and not $profile." ;;
    esac
    set_setting COMPOSE_PROFILES "$profile"
}

make_secret() { # what a container's user reads, whoever that is: the directory keeps others out
    [ ! -s "$secrets/$1" ] || return 0
    (umask 077 && od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n' >"$secrets/.$1")
    chmod 444 "$secrets/.$1"
    sync "$secrets/.$1" 2>/dev/null || sync
    mv "$secrets/.$1" "$secrets/$1"
}

make_secrets() {
    [ -d "$secrets" ] || mkdir -m 700 "$secrets"
    chmod 700 "$secrets"
    for name in agent_database_password grafana_database_password grafana_admin_password; do make_secret "$name"; done
    # The agent takes a password only from a file that nobody else may read.
    if ! cmp -s "$secrets/agent_database_password" "$secrets/for_the_agent"; then
        (umask 077 && cat "$secrets/agent_database_password" >"$secrets/.for_the_agent")
        mv "$secrets/.for_the_agent" "$secrets/for_the_agent"
    fi
}

make_volumes() {
    for name in postgres loki grafana promtail; do docker volume create "homelab_$name" >/dev/null; done
}

stop_the_other_shipper() { # two would ship each line twice
    for name in promtail alloy; do
        [ "$name" = "$profile" ] || compose rm --stop --force "$name" >/dev/null 2>&1 || :
    done
    [ "$profile" = edge ] || compose rm --stop --force promtail-edge >/dev/null 2>&1 || :
}

tell() {
    if [ "$profile" = edge ]; then
        say "" "This host's logs go to $(setting HOMELAB_LOKI_URL)."
        return
    fi
    say "
Grafana      http://127.0.0.1:3001/ as admin; the password: cat $secrets/grafana_admin_password
PostgreSQL   postgresql://homelab@127.0.0.1:5432/homelab
Loki         http://127.0.0.1:3100/

Have the agent use this PostgreSQL, and take along what it has:
  homelab-agent db move --to postgresql://homelab@127.0.0.1:5432/homelab --password file:$secrets/for_the_agent
Passwords are in $secrets (yours alone); is everything as it should be: homelab-agent doctor stack"
    at_least "$docker_version" 28 0 || say "
Docker $docker_version is older than 28: whoever is in the same network may reach the ports on 127.0.0.1 as well. Upgrade it, or shut them out."
}

up() {
    settle
    check_memory
    check_journal
    make_secrets
    make_volumes
    stop_the_other_shipper
    # shellcheck disable=SC2086 # a list of names
    if ! compose up --detach --wait --wait-timeout 600 ${SERVICE:-}; then
        compose ps --all
        compose logs --tail 20 || :
        fail "Not all of it came up; what the last lines above say should help." "make stack-logs SERVICE=NAME"
    fi
    tell
}

check_docker
# shellcheck disable=SC2086 # SERVICE is a list of names
case ${1:-} in
up) up ;;
down) compose_all down ;; # volumes are external: none of them is removed, whatever is said
ps) compose_all ps --all ;;
pull) compose pull ;;
restart) compose restart ${SERVICE:-} ;;
logs) compose logs --tail "${TAIL:-100}" ${FOLLOW:+--follow} ${SERVICE:-} ;;
*) fail "usage: $0 up|down|ps|pull|restart|logs" ;;
esac
