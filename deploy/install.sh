#!/bin/sh
# Make this checkout a service of this host: `make install`. Again and again it changes nothing that is as it should be.
#   PYTHON=/usr/bin/python3.12   with this one
#   GROUP=yes                    although there is a group homelab that this has not made, and somebody is of it
#   ADOPT=DIRECTORY|no           take over what `make run` has gathered there (else it is looked for), or start fresh
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/host.sh"
. "$root/deploy/release.sh"

begin install
find_python install
identify
old=$(current)
if [ -e "$note/old" ] || { [ "$old" != "$release_id" ] && is_enabled && works "$old"; }; then
    exec 9>&- # the other one takes the lock
    exec "$root/deploy/upgrade.sh"
fi
agent() { as_agent "$release/bin/homelab-agent" --config $etc/config.toml "$@"; }

members() { # prints who is of the group homelab, by name or as their own first one
    IFS=: read -r _ _ gid names <<END
$(getent group homelab)
END
    { printf '%s\n' "$names" | tr , '\n' && getent passwd | awk -F : -v gid="$gid" '$4 == gid { print $1 }'; } |
        sort -u | sed '/^$/d' | tr '\n' ' ' | sed 's/ $//'
}

check_group() { # of one that was there before our user, nobody has meant that who is of it may administer the agent
    if getent passwd $user >/dev/null || ! getent group homelab >/dev/null; then return; fi
    who=$(members)
    [ -n "$who" ] || { say "There is a group homelab already, and nobody is of it: who will be may administer the agent."; return; }
    [ "${GROUP:-}" = yes ] ||
        fail "There is a group homelab already, and of it are: $who. Who is of it may administer the agent without a log-in." \
            "If these may: sudo make install GROUP=yes" \
            "If not, have it be called otherwise: sudo groupmod --new-name homelab-old homelab; or take them out: sudo gpasswd --delete NAME homelab"
}

make_accounts() {
    place_accounts=$lib/sysusers.d/homelab-agent.conf
    place "$root/deploy/systemd/homelab-agent.sysusers.conf" "$place_accounts"
    if ! getent passwd $user >/dev/null || ! getent group homelab >/dev/null; then
        systemd-sysusers "$place_accounts"
        did "made the user $user and the group homelab"
    fi
}

make_configuration() { # never over one that is there
    [ -d $etc ] || { install -d -m 755 $etc && did "made $etc"; }
    put_sample
    if [ ! -e $etc/config.toml ]; then
        (umask 077 && cp "$root/config.toml" $etc/config.toml.new)
        "$release/bin/homelab-agent" --config $etc/config.toml.new installing configuration
        put_private $etc/config.toml
        did "put $etc/config.toml, which is yours from now on"
    fi
    if [ ! -d $etc/credentials ]; then
        install -d -m 700 $etc/credentials
        did "made $etc/credentials"
    fi
    if [ ! -e $etc/credentials/api-token ]; then
        "$python" -I -c 'import secrets; print("hla_" + secrets.token_urlsafe(32))' |
            (umask 077 && cat >$etc/credentials/api-token.new)
        mv $etc/credentials/api-token.new $etc/credentials/api-token
        did "made $etc/credentials/api-token"
    fi
}

enable_units() {
    enabled_now=
    for kind in socket service timer; do
        for unit in $(ours $kind); do
            if ! systemctl is-enabled --quiet "$unit" 2>/dev/null; then
                systemctl enable --quiet "$unit"
                did "enabled $unit"
                enabled_now="$enabled_now $unit"
            fi
        done
    done
}

take_back() { # what did not come up is not enabled, where it was not before
    last_words
    [ -n "$enabled_now" ] || fail "The agent did not come up; it is tried again by systemd. When that is mended: make install"
    # shellcheck disable=SC2086 # several words
    systemctl disable --quiet --now $enabled_now 2>/dev/null || :
    fail "The agent did not come up; its units are disabled again. When that is mended: make install"
}

say_what_is_next() {
    say "homelab-agent $release_id runs, and starts with this host."
    who=$(members)
    [ -z "$who" ] || say "  who is of homelab  $who: may administer it without a log-in"
    "$command" installing greet || :
    say "  what needs you     sudo homelab-agent, or without sudo after: sudo usermod -aG homelab ${SUDO_USER:-YOU}
  its log            make logs
  its configuration  $etc/config.toml, then: sudo homelab-agent reload
  a newer one        git pull && sudo make upgrade"
}

check_group
build_release
journal_library
make_accounts
make_configuration
"$release/bin/homelab-agent" --config $etc/config.toml installing adopt "$root" "${ADOPT:-}"
agent config check || fail "$etc/config.toml has these faults, so nothing was enabled or started. When they are mended: make install"
systemctl is-active --quiet homelab-agent.socket ||
    "$release/bin/homelab-agent" --config $etc/config.toml installing free || fail "So nothing was enabled or started. When that is mended: make install"
was=$(systemctl is-active $service 2>/dev/null || :)
use "$release_id"
place_files "$release_id"
systemd-tmpfiles --create "$lib/tmpfiles.d/homelab-agent.conf"
enable_units
if [ "$was" = active ] && [ -z "$changed" ]; then
    tidy
    say "Nothing has changed: homelab-agent $release_id goes on running."
    exit 0
fi
[ "$was" != active ] || say "Restarting it, for these have changed:$changed"
bring_up || take_back
tidy
say_what_is_next
