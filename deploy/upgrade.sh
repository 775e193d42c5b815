#!/bin/sh
# Change over to this checkout's release, and back by itself where that one is not well: `make upgrade`.
#   HEALTH_SECONDS=90   how long the new one may take until it stands as well as the old one did
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/host.sh"
. "$root/deploy/release.sh"

begin upgrade
find_python upgrade
identify
old=$(current)
[ -n "$old" ] || fail "homelab-agent is not installed. Run: sudo make install"
if [ -e "$note/old" ]; then
    old=$(cat "$note/old")
    say "An upgrade from $old was cut short before it was proven; it goes on."
elif [ "$old" = "$release_id" ] || ! is_enabled; then
    [ "$old" != "$release_id" ] || say "homelab-agent $release_id is in use already."
    exec 9>&- # the other one takes the lock
    exec "$root/deploy/install.sh"
fi
agent() { as_agent "$release/bin/homelab-agent" --config $etc/config.toml "$@"; }

check_configuration() {
    agent config check || fail "The new release does not take $etc/config.toml; $old goes on running. When that is mended: make upgrade"
    put_sample
}

tell_migrations() {
    if plan=$(agent db migrate --plan 2>&1); then
        say "What it will do to the database:"
        say "$plan" | sed -n 's/^-- /  /p'
    else
        say "What it will do to the database cannot be told now; it does it when it starts, and only adds: $(say "$plan" | head -n 1)"
    fi
}

write_note() {
    [ ! -e "$note/old" ] || return 0
    rm -rf "$note" "$note.new"
    mkdir "$note.new"
    "$release/bin/homelab-agent" installing standing >"$note.new/before.json" 2>/dev/null || echo '[]' >"$note.new/before.json"
    echo "$old" >"$note.new/old"
    sync -f "$note.new/old"
    mv "$note.new" "$note"
}

proven() {
    bring_up && "$release/bin/homelab-agent" installing prove --before "$note/before.json" --seconds "${HEALTH_SECONDS:-90}"
}

go_back() {
    switching=
    last_words
    works "$old" || fail "It is not well, and the release before it, $old, does not run on this host any more. Look: make logs"
    say "It is not well: back to $old."
    changed=
    use "$old"
    place_files "$old" || : # as far as it goes: that it runs is what counts
    changed="$changed release"
    bring_up || fail "$old did not come up again either. Look: make logs"
    rm -rf "$note"
    done_so_far=
    fail "The upgrade to $release_id failed; $old runs again, on all data and on whatever the new one has added to the database. The new one is kept in $release; its log: journalctl -u homelab-agent"
}

build_release
journal_library
check_configuration
tell_migrations
write_note
switching=yes # from here on whatever fails leads back (ended, in release.sh)
use "$release_id"
place_files "$release_id"
systemd-sysusers "$lib/sysusers.d/homelab-agent.conf"
systemd-tmpfiles --create "$lib/tmpfiles.d/homelab-agent.conf"
changed="$changed release" # also where it was chosen before this was cut short
say "Changing over from $old to $release_id ..."
proven || go_back
switching=
echo "$old" >"$before.new"
mv "$before.new" "$before"
rm -rf "$note"
tidy
say "homelab-agent $release_id runs. $old is kept: to go back, check out its commit and run: sudo make upgrade"
