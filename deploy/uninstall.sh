#!/bin/sh
# Take the service away: `make uninstall`. Data, configuration and credentials stay.
#   PURGE=1   takes them away too, after a question (YES=1: without one)
#   FORCE=1   also where a container may be left standing still
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/host.sh"
. "$root/deploy/release.sh"

find_records() { # prints where the root half has its notes: the configuration may say another place
    python3 -I -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["backup"]["records"])' $etc/config.toml 2>/dev/null ||
        echo $notes
}

own_changes() { # prints what the operator has changed of our units, by `systemctl edit` or another way
    for unit in homelab-agent.service homelab-agent.socket homelab-agent-privileged.service homelab-agent-privileged.socket homelab-agent-resume.service; do
        for each in "/etc/systemd/system/$unit" "/etc/systemd/system/$unit.d" "/etc/systemd/system.control/$unit.d"; do
            if [ -e "$each" ] || [ -L "$each" ]; then echo "$each"; fi
        done
    done
}

begin uninstall
remember
notes=/var/lib/homelab-agent-backup
records=$(find_records)

ask_about_data() {
    [ -n "${PURGE:-}" ] || return 0
    say "This removes for ever:"
    for each in $state $etc $notes; do [ ! -e "$each" ] || say "  $each ($(du -sh "$each" | cut -f 1))"; done
    [ "$records" = $notes ] || [ ! -e "$records" ] || say "  what the root half has noted in $records"
    own_changes | sed 's/^/  /'
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
        displace "$file"
    done <"$prefix/placed"
    leave_directories
    systemctl daemon-reload
    systemctl reset-failed 'homelab-agent*' 2>/dev/null || :
    ! grep -q '\.catalog$' "$prefix/placed" || journalctl --update-catalog
    did "disabled and removed its units"
}

take_program() {
    ! is_our_command || rm -f $command
    rm -rf "$prefix" /var/cache/private/homelab-agent-build
    rm -f /var/cache/homelab-agent-build $lib/sysusers.d/homelab-agent.conf
    did "removed $prefix"
}

take_data() {
    rm -rf $state $etc $notes
    did "removed $state, $etc, $notes"
    if [ "$records" != $notes ] && [ -d "$records" ]; then
        (cd "$records" && rm -rf frozen hooks undo trust kit.json restic drill)
        rmdir "$records" 2>/dev/null || say "  $records stays, for there is more in it than the root half's notes"
        did "removed the notes in $records"
    fi
    own_changes | while read -r each; do rm -rf "$each" && say "  removed $each"; done
    systemctl daemon-reload
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
rm -rf /run/homelab-agent
if [ -n "${PURGE:-}" ]; then
    take_data
    say "homelab-agent is gone."
else
    stays=$(own_changes | tr '\n' ' ')
    say "homelab-agent is uninstalled. Its data stays in $state, its configuration in $etc, with their owners; make install goes on with them, make uninstall PURGE=1 removes them."
    [ -z "$stays" ] || say "Your changes to its units stay as well: $stays"
fi
rm -f $lock
