#!/bin/sh
# The life of the stack beside this file: up, down, ps, pull, restart, logs. `make` calls it.
#   PROFILE=promtail|alloy       what ships logs; kept in .env
#   PROFILE=edge|edge-alloy      only that, to another host's Loki
#   LOKI_URL=http://HOST:3100    where to, for these two; kept in .env
#   SERVICE=NAME                 only this one, or these (up, restart, logs)
#   FORCE=1                      start although there is little memory
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
env_file=$here/.env
secrets=$here/secrets
shippers="promtail:promtail alloy:alloy edge:promtail-edge edge-alloy:alloy-edge" # profile:service
persistent=/var/log/journal

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
compose_all() {
    # shellcheck disable=SC2046 # a list of words
    compose $(for each in $shippers; do say --profile "${each%:*}"; done) "$@"
}

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
    least=$(compose config | awk '/^ +mem_limit:/ {gsub(/"/, "", $2); sum += $2} END {print int(sum / 1048576)}')
    if [ "$free" -ge "$least" ] || is_edge; then return 0; fi
    [ -z "${FORCE:-}" ] || { say "There are $free MiB of memory free, less than $least: forced."; return 0; }
    fail "There are $free MiB of memory free; the stack may take $least." \
        "Ship this host's logs to another host's Loki instead:  make up PROFILE=edge LOKI_URL=http://HOST:3100" \
        "Or start it all the same:                             make up FORCE=1"
}

is_volatile() { # whether journald writes to its place in memory, as homelab_agent/core/journal/journalctl.py asks it
    for each in /run/log/journal/*; do
        [ -d "$each" ] || continue
        [ -x "$each" ] || return 0
        [ -e "$each/system.journal" ] || continue
        disk=$persistent/${each##*/}/system.journal
        [ -e "$disk" ] && [ -z "$(find "$each/system.journal" -newer "$disk")" ] || return 0
    done
    return 1
}

check_journal() {
    journal=$(setting HOMELAB_JOURNAL)
    journal=${journal:-$persistent}
    if [ ! -d "$journal" ]; then
        what="There is no $journal"
    elif [ "$journal" = "$persistent" ] && is_volatile; then
        what="Nothing new comes to $journal"
    else
        return 0
    fi
    fail "$what: this host's journal is in memory only, where the shipper does not read it. Run:" \
        "sudo mkdir -p $persistent /etc/systemd/journald.conf.d" \
        "printf '[Journal]\nStorage=persistent\n' | sudo tee /etc/systemd/journald.conf.d/99-persistent.conf # Raspberry Pi OS says volatile" \
        "sudo systemctl restart systemd-journald && sudo journalctl --flush"
}

setting() { sed -n "s/^$1=//p" "$env_file" 2>/dev/null | tail -n 1; }

set_setting() { # in .env, whole or not at all
    { grep -v "^$1=" "$env_file" 2>/dev/null || :; say "$1=$2"; } >"$env_file.new"
    mv "$env_file.new" "$env_file"
}

choose_profile() {
    profile=${PROFILE:-$(setting COMPOSE_PROFILES)}
    profile=${profile:-promtail}
    case $profile in promtail | alloy | edge | edge-alloy) ;; *) fail "PROFILE is promtail, alloy, edge or edge-alloy, and not $profile." ;; esac
}

is_edge() { [ "$profile" = edge ] || [ "$profile" = edge-alloy ]; }

name_host() { # as the agent calls it in every row, so that Grafana finds its logs; where there is none, as the kernel does
    known=$(setting HOMELAB_HOST)
    agent=$(command -v homelab-agent || say "$here/../.venv/bin/homelab-agent")
    name=
    if [ -x "$agent" ] && ! name=$(cd "$here/.." && "$agent" config host 2>/dev/null); then
        say "The agent does not tell $(id -un) what it calls this host (homelab-agent config host); as root, homelab-agent doctor stack compares." >&2
    fi
    name=${name:-${known:-$(uname -n)}}
    [ "$name" != "$known" ] || return 0
    set_setting HOMELAB_HOST "$name"
    [ -z "$known" ] || say "This host was $known in Loki and is $name from now on; what has been logged stays with $known."
}

leave_room() { # for what Go's own bound does not know of, before the container's limit ends the process
    for each in LOKI GRAFANA; do
        limit=$(setting "HOMELAB_${each}_MEMORY_MB")
        set_setting "HOMELAB_${each}_GO_MB" $((${limit:-512} * 85 / 100))
    done
}

settle() { # .env: what this host is, and what was chosen
    choose_profile
    [ -e "$env_file" ] || say "# Of this host. docker-compose.yml and README.md say what may stand here." >"$env_file"
    name_host
    leave_room
    if [ -z "$(setting HOMELAB_DOCKER_ROOT)" ]; then
        set_setting HOMELAB_DOCKER_ROOT "$(docker info --format '{{.DockerRootDir}}')"
    fi
    if is_edge; then
        [ -z "${LOKI_URL:-}" ] || set_setting HOMELAB_LOKI_URL "${LOKI_URL%/}"
        [ -n "$(setting HOMELAB_LOKI_URL)" ] ||
            fail "Where is the other host's Loki? Run:" "make up PROFILE=$profile LOKI_URL=http://HOST:3100"
    fi
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
    for each in agent_database_password grafana_database_password grafana_admin_password grafana_secret_key; do
        make_secret "$each"
    done
    # The agent takes a password only from a file that nobody else may read.
    renewed=
    if ! cmp -s "$secrets/agent_database_password" "$secrets/for_the_agent"; then
        [ ! -e "$secrets/for_the_agent" ] || renewed=yes
        (umask 077 && cat "$secrets/agent_database_password" >"$secrets/.for_the_agent")
        mv "$secrets/.for_the_agent" "$secrets/for_the_agent"
    fi
}

make_volumes() {
    for each in postgres loki grafana promtail; do docker volume create "homelab_$each" >/dev/null; done
}

stop_the_other_shipper() { # two would ship each line twice
    for each in $shippers; do
        [ "${each%:*}" = "$profile" ] || compose rm --stop --force "${each#*:}" >/dev/null 2>&1 || :
    done
}

# An agent that is a service has a user of its own, who may read neither this directory nor another user's files.
service_file=/etc/homelab-agent/stack-database-password
is_service() { id -u homelab-agent >/dev/null 2>&1; }
hand_over() { say "sudo install -D -o homelab-agent -m 600 $secrets/agent_database_password $service_file"; }

tell() {
    if is_edge; then
        say "" "This host's logs go to $(setting HOMELAB_LOKI_URL)."
        return
    fi
    if is_service; then
        move="  $(hand_over)
"
        file=$service_file
    else
        move=
        file=$secrets/for_the_agent
    fi
    say "
Grafana      http://127.0.0.1:3001/ as admin; the password: cat $secrets/grafana_admin_password
PostgreSQL   postgresql://homelab@127.0.0.1:5432/homelab
Loki         http://127.0.0.1:3100/

Have the agent use this PostgreSQL, and take along what it has:
$move  homelab-agent db move --to postgresql://homelab@127.0.0.1:5432/homelab --password file:$file
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

restart() {
    make_secrets # a changed password holds from here on, so the agent's copy of it has to be the same
    # shellcheck disable=SC2086 # a list of names
    compose restart ${SERVICE:-}
    [ -z "$renewed" ] || ! is_service || say "The agent's password is another now. Give it to the agent:" "  $(hand_over)"
}

pull() { # of what would be started, also before it was for the first time
    choose_profile
    COMPOSE_PROFILES=$profile compose pull
}

check_docker
# shellcheck disable=SC2086 # SERVICE is a list of names
case ${1:-} in
up) up ;;
down) compose_all down ;; # volumes are external: none of them is removed, whatever is said
ps) compose_all ps --all ;;
pull) pull ;;
restart) restart ;;
logs) compose logs --tail "${TAIL:-100}" ${FOLLOW:+--follow} ${SERVICE:-} ;;
*) fail "usage: $0 up|down|ps|pull|restart|logs" ;;
esac
