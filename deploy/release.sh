# Releases of the agent below /opt, and what is put into the system for them: sourced by install.sh and upgrade.sh.
# shellcheck shell=sh
# shellcheck disable=SC2154 # root and python are who sources it's

prefix=/opt/homelab-agent
etc=/etc/homelab-agent
state=/var/lib/homelab-agent
user=homelab-agent
command=/usr/local/bin/homelab-agent
lib=/usr/local/lib
units=$lib/systemd/system
service=homelab-agent.service
lock=/run/homelab-agent-install.lock
# shellcheck disable=SC2034 # it is the others'
note=$prefix/upgrading # while an upgrade is not proven: the release before it, and how that stood
kept='pyproject.toml homelab_agent requirements deploy'
before=$prefix/before # the name of the release before the one in use
done_so_far=
changed=
. "$root/deploy/placing.sh"

did() { # say what was changed, and remember it
    done_so_far="$done_so_far
  $1"
    say "  $1"
}

begin() { # $1 is the target: what every one of them needs, and that it is alone
    umask 022
    cd / # whoever it becomes may enter that
    target=$1
    [ "$(id -u)" -eq 0 ] || fail "make $target changes this host's services, which root may. Run: sudo make $target"
    [ -d /run/systemd/system ] || fail "systemd does not run here, so there can be no service. In the foreground it runs without: make run"
    case $root/ in
    "$prefix"/*) fail "This checkout is in $prefix, where the releases are and what make uninstall takes away. Move it: mv $(quoted "$root") /srv/homelab-agent" ;;
    esac
    [ ! -e "$prefix" ] || [ "$(stat -c %u "$prefix")" -eq 0 ] || fail "$prefix is not root's, so its owner could have root run anything. Run: chown root: $prefix"
    [ "$target" = uninstall ] || check_command
    systemd=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${systemd:-0}" -ge 252 ] || fail "systemd 252 or newer is needed, this is ${systemd:-unknown}. In the foreground the agent runs without: make run"
    exec 9>$lock
    { flock --nonblock 9 && [ "$(stat -Lc %i /proc/self/fd/9)" = "$(stat -c %i $lock 2>/dev/null)" ]; } || # uninstall removes it
        fail "Another make install, upgrade or uninstall is at work. Wait for it: flock $lock true"
    trap 'ended $?' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

ended() { # by a signal it is cut short, and goes on next time; by a fault of its own in a change over, it goes back
    [ "$1" -eq 0 ] || [ "$1" -gt 128 ] || [ -z "${switching:-}" ] || go_back
    [ "$1" -eq 0 ] || [ -z "$done_so_far" ] || say "make $target did not come to its end. What it had changed until then:$done_so_far
It goes on from there: make $target" >&2
}

check_command() { # what somebody else has put where the command is to be is not written over
    if { [ -e "$command" ] || [ -L "$command" ]; } && ! is_our_command; then
        fail "$command is there already, and not by make install (by pip?). Look at it, and move it away: mv $command $command.old"
    fi
}

current() { # prints the release that is in use
    ! [ -L "$prefix/current" ] || basename "$(readlink "$prefix/current")"
}

is_enabled() { # whether an install has come to its end here
    systemctl is-enabled --quiet $service 2>/dev/null
}

works() { # whether a release's program runs at all
    [ -n "$1" ] && as_agent "$prefix/releases/$1/bin/homelab-agent" --version >/dev/null 2>&1
}

is_our_command() { # whether the command is the one that was put there for the releases
    [ "$(readlink "$command")" = ../../../opt/homelab-agent/current/bin/homelab-agent ]
}

as_agent() { # run a command as the agent's user, with what the service gives it
    env -i PATH="$PATH" LANG=C.UTF-8 STATE_DIRECTORY=$state CREDENTIALS_DIRECTORY=/run/credentials/$service \
        setpriv --reuid=$user --regid=$user --init-groups --no-new-privs "$@"
}

as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "$@"
}

put_private() { # $1.new becomes $1, for root and the agent to read
    chown root:$user "$1.new"
    chmod 640 "$1.new"
    if cmp -s "$1.new" "$1"; then rm -f "$1.new"; else mv "$1.new" "$1"; fi
}

put_sample() { # the release's own, beside the configuration
    as_agent "$release/bin/homelab-agent" config sample >$etc/config.toml.sample.new
    put_private $etc/config.toml.sample
}

identify() { # sets $release_id and $release: what this checkout is with this Python
    python=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    case $python in
    /root/* | /home/*) fail "The service cannot use $python, for it enters nobody's home directory. Run: make $target PYTHON=/usr/bin/python3" ;;
    esac
    digest=$( (
        cd "$root" || exit
        # shellcheck disable=SC2086 # several words
        find $kept -name __pycache__ -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        echo "$python" "$(uname -m)"
    ) | sha256sum | cut -c 1-12)
    release_version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")
    release_id=$release_version-$digest
    release=$prefix/releases/$release_id
}

build_release() { # make its environment: wheels by nobody in particular, checked and installed by root
    if [ -e "$release/complete" ]; then
        say "homelab-agent $release_id is built."
        return
    fi
    builds=no
    if ! "$python" -I -c 'import systemd.journal' 2>/dev/null && builds_systemd; then builds=yes; fi
    dependencies=$( (cat "$root"/requirements/*.txt && echo "$python $builds") | sha256sum | cut -d ' ' -f 1)
    say "Building homelab-agent $release_id with $("$python" --version), by a user without rights ..."
    rm -rf "$release"
    mkdir -p "$release/wheels"
    like=$(alike)
    make_wheels "${like:+own}" >"$release/wheels.tar" ||
        fail "The wheels could not be made; what is above says why. Nothing of the running system was changed. Run it again when that is mended: make $target"
    tar -C "$release/wheels" --no-same-owner --no-same-permissions -xf "$release/wheels.tar"
    make_environment
    write_launcher
    cp -R "$root/deploy/systemd" "$release/units"
    rm -rf "$release/wheels" "$release/wheels.tar"
    sync -f "$release"
    : >"$release/complete"
    did "built $release"
}

alike() { # prints a whole release that has the same libraries
    for each in "$prefix"/releases/*; do
        if [ -e "$each/complete" ] && [ "$(cat "$each/dependencies")" = "$dependencies" ]; then
            echo "$each"
            return
        fi
    done
}

make_environment() { # what is in the locks has its hash; libraries that another release has are linked, not copied
    if [ -z "$like" ]; then
        "$python" -m venv "$release"
    else
        "$python" -m venv --without-pip "$release"
        cp -al "$(site_of "$like")/." "$(site_of "$release")"
        rm -rf "$(site_of "$release")"/homelab_agent "$(site_of "$release")"/homelab_agent-*.dist-info
    fi
    "$release/bin/python" -I "$root/deploy/locked.py" "$release/wheels" "$root/requirements/run.txt" "$root/requirements/systemd.txt" >"$release/locked.txt"
    pip="$release/bin/python -I -m pip --isolated --disable-pip-version-check --no-input"
    $pip install --quiet --no-index --find-links "$release/wheels" --no-deps --only-binary :all: --require-hashes \
        -r "$release/locked.txt"
    found=$($pip check) || fail "The release would not work:" "$found"
    echo "$dependencies" >"$release/dependencies"
}

site_of() { # prints where a release has its libraries
    "$1/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

make_wheels() { # $1 is own where no other wheel is needed; settings and sources go in, wheels come out, and no directory is shared
    systemctl stop homelab-agent-build.service 2>/dev/null || : # of one that was killed
    settings=$(builder_settings)
    epoch=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 315532800) # else zip's first day
    # shellcheck disable=SC2086,SC2016 # several words; what is single-quoted is for the other shell
    { printf '%s\n' "$settings" && tar -C "$root" --exclude=__pycache__ --owner=root --group=root -cf - LICENSE README.md $kept; } |
        systemd-run --quiet --pipe --wait --collect --unit=homelab-agent-build \
            --property=DynamicUser=yes --property=ProtectHome=yes --property=CacheDirectory=homelab-agent-build --property=PrivateDevices=yes \
            --property=CapabilityBoundingSet= --property=RestrictNamespaces=yes --property=UMask=0077 \
            --setenv=SOURCE_DATE_EPOCH="$epoch" /bin/sh -c '
                IFS= read -r settings && eval "$settings" && cd "$CACHE_DIRECTORY" && rm -rf work && mkdir work && cd work && tar -xf - && exec sh deploy/wheels.sh "$@"
            ' sh "$python" "$builds" "${1:-all}"
}

builder_settings() { # prints what pip is told of proxies, mirrors and certificates, as a line of shell; a password
    # among them goes through the pipe: the environment of a unit is everybody's to read (systemctl show)
    "$python" -I -c '
import os, re, shlex
wanted = re.compile("PIP_[A-Z_]+|[a-zA-Z]+_proxy|[A-Z]+_PROXY|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE")
given = {name: value for name, value in os.environ.items() if wanted.fullmatch(name) and "\n" not in value}
print("export", "PIP_NO_INPUT=1", *(f"{name}={shlex.quote(value)}" for name, value in given.items()))'
}

write_launcher() {
    name=$(basename "$python")
    library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    {
        say "#!/bin/sh"
        say "release=$(quoted "$release") python=$(quoted "$name") library=$(quoted "$library")"
        say "checkout=$(quoted "$(quoted "$root")") # as it is typed"
        cat "$root/deploy/launcher.sh"
    } >"$release/bin/homelab-agent"
    chmod 755 "$release/bin/homelab-agent"
}

journal_library() { # native fields need systemd's library: the distribution's, or one that was built
    site=$(site_of "$release")
    [ -e "$site/systemd" ] || rm -f "$site/systemd"
    if ! as_nobody "$release/bin/python" -I -c 'import systemd.journal' 2>/dev/null; then
        theirs=$("$python" -I -c 'import os, systemd.journal; print(os.path.dirname(systemd.__file__))' 2>/dev/null || :)
        if [ -z "$theirs" ]; then
            say "The journal gets JSON lines, without fields of its own (HOMELAB_COMPONENT=...): systemd's library for this Python is not here. For them: $(install_line python3-systemd python3-systemd python-systemd py3-systemd python3-systemd) && make install"
            return
        fi
        ln -sfn "$theirs" "$site/systemd" # that one package alone, as the distribution keeps it
        changed="$changed systemd-python"
        did "took systemd's journal library from $theirs"
    fi
}

use() { # have release $1 be the one that starts
    [ "$(current)" = "$1" ] || {
        ln -sfn "releases/$1" "$prefix/current.new"
        mv -T "$prefix/current.new" "$prefix/current"
        changed="$changed release"
        did "chose $1"
    }
    if ! is_our_command; then
        make_directory "${command%/*}"
        ln -s ../../../opt/homelab-agent/current/bin/homelab-agent "$command"
        did "linked $command"
    fi
}

bring_up() { # start what is enabled, anew where something has changed, and wait for READY
    sockets=$(ours socket)
    case $changed in
    *.socket* | *listen.conf*) systemctl stop $service homelab-agent-privileged.service 2>/dev/null || : ;;
    esac
    # shellcheck disable=SC2086 # several words
    case $changed in
    *.socket* | *listen.conf*) systemctl restart $sockets || return 1 ;;
    *) systemctl start $sockets || return 1 ;;
    esac
    if [ -n "$changed" ]; then
        systemctl reset-failed $service 2>/dev/null || :
        systemctl restart $service || return 1
        systemctl stop homelab-agent-privileged.service 2>/dev/null || : # the next call starts the new one
    else
        systemctl start $service || return 1
    fi
}

last_words() { # what the journal has of a start that failed
    say "Its last words:"
    journalctl --quiet --no-pager --output=cat --lines=12 --unit=$service --unit=homelab-agent.socket | sed 's/^/  /'
}

tidy() { # of the releases stay the one in use and the one before it
    before_it=$(cat "$before" 2>/dev/null || :)
    for each in "$prefix"/releases/*; do
        case ${each##*/} in "$(current)" | "$before_it") ;; *) rm -rf "$each" ;; esac
    done
}
