#!/bin/sh
# Take the service away: `make uninstall`. Data, configuration and credentials stay.
#   PURGE=1   takes them away too, after a question (YES=1: without one)
#   FORCE=1   also where a container may be left standing still
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/host.sh"
. "$root/deploy/release.sh"

begin uninstall
records=/var/lib/homelab-agent-backup

ask_about_data() {
    [ -n "${PURGE:-}" ] || return 0
    say "This removes for ever:"
    for each in $state $etc $records; do [ ! -e "$each" ] || say "  $each ($(du -sh "$each" | cut -f 1))"; done
    say "Backups elsewhere, as in /var/backups/homelab-agent, stay."
    [ -z "${YES:-}" ] || return 0
    printf 'Type purge to go on: '
    read -r answer || answer=
    [ "$answer" = purge ] || fail "Nothing was removed."
}

stop_units() {
    [ -e "$prefix/placed" ] || return 0
    for kind in timer socket service; do
        # shellcheck disable=SC2046 # several words
        systemctl stop $(sed -n "s|^$units/\([^/]*\.$kind\)\$|\1|p" "$prefix/placed") 2>/dev/null || :
    done
    did "stopped its units"
    # What a backup that was killed has left still runs again before the program for it is gone.
    systemctl start homelab-agent-resume.service 2>/dev/null || [ -n "${FORCE:-}" ] || [ ! -e "$units/homelab-agent-resume.service" ] ||
        fail "A backup has left something still that does not come back: journalctl -u homelab-agent-resume. Nothing was removed. All the same: make uninstall FORCE=1"
}

take_units() {
    [ -e "$prefix/placed" ] || return 0
    for kind in timer service socket; do
        for unit in $(ours $kind); do
            systemctl disable --quiet "$unit" 2>/dev/null || :
        done
    done
    while read -r file; do
        rm -f "$file"
        rmdir "$(dirname "$file")" 2>/dev/null || :
    done <"$prefix/placed"
    systemctl daemon-reload
    systemctl reset-failed 'homelab-agent*' 2>/dev/null || :
    ! grep -q '\.catalog$' "$prefix/placed" || journalctl --update-catalog
    did "disabled and removed its units"
}

take_program() {
    [ ! -L $command ] || rm -f $command
    rm -rf "$prefix" /var/cache/private/homelab-agent-build
    rm -f /var/cache/homelab-agent-build $lib/sysusers.d/homelab-agent.conf
    did "removed $prefix"
}

take_data() {
    rm -rf $state $etc $records
    did "removed $state, $etc, $records"
    userdel $user 2>/dev/null || :
    ! getent group $user >/dev/null || groupdel $user
    if getent group homelab | grep -q ':$'; then
        groupdel homelab 2>/dev/null || : # somebody's own, who is not of it by name
    fi
    did "removed the user $user, and the group homelab where nobody is of it"
}

ask_about_data
stop_units
take_units
take_program
rm -rf /run/homelab-agent /run/homelab-agent-install.lock
if [ -n "${PURGE:-}" ]; then
    take_data
    say "homelab-agent is gone."
else
    say "homelab-agent is uninstalled. Its data stays in $state, its configuration in $etc, with their owners; make install goes on with them, make uninstall PURGE=1 removes them."
fi
