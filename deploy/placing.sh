# What is put into the system for a release, noted in `placed`, and taken away by that: sourced by release.sh.
# shellcheck shell=sh
# shellcheck disable=SC2154 # prefix and what else is not here is release.sh's

remember() { # of a run that was killed, what it had put in place by then is ours, too
    [ -e "$prefix/placed.new" ] || return 0
    cat "$prefix/placed" "$prefix/placed.new" 2>/dev/null | sort -u >"$prefix/placed.all"
    mv "$prefix/placed.all" "$prefix/placed"
    rm -f "$prefix/placed.new"
}

place() { # $1 is put to $2 if that is another; what is ours is noted before
    echo "$2" >>"$prefix/placed.new"
    if cmp -s "$1" "$2"; then return; fi
    sync "$prefix/placed.new"
    make_directory "${2%/*}"
    install -m 644 "$1" "$2.new"
    mv "$2.new" "$2"
    changed="$changed ${2##*/}"
    did "put $2"
}

make_directory() { # $1 and those above it; which of them were not there is noted
    [ -d "$1" ] || {
        make_directory "${1%/*}"
        echo "$1" >>"$prefix/directories"
        mkdir "$1"
    }
}

displace() { # away with the file $1, and with what a killed run had made to become it
    rm -f "$1" "$1.new"
}

leave_directories() { # those of ours that nobody else uses
    [ -e "$prefix/directories" ] || return 0
    sort -ru "$prefix/directories" | while read -r each; do rmdir "$each" 2>/dev/null || :; done
}

place_files() { # the units of release $1 and what belongs to them; away with what an older one had
    from=$prefix/releases/$1/units
    remember
    : >"$prefix/placed.new"
    (cd "$from" && find . -type f) >"$prefix/files" # not through a pipe, behind which variables are lost
    while read -r file; do
        file=${file#./}
        case $file in
        *.sysusers.conf) place "$from/$file" "$lib/sysusers.d/${file%.sysusers.conf}.conf" ;;
        *.tmpfiles.conf) place "$from/$file" "$lib/tmpfiles.d/${file%.tmpfiles.conf}.conf" ;;
        *.catalog) place "$from/$file" "$lib/systemd/catalog/${file##*/}" ;;
        *.d/[0-9][0-9][0-9].conf) # for systemd of that version and newer
            least=${file##*/}
            [ "$systemd" -lt "${least%.conf}" ] || place "$from/$file" "$units/$file"
            ;;
        *.service | *.socket | *.timer | *.target | *.path | *.conf) place "$from/$file" "$units/$file" ;;
        esac
    done <"$prefix/files"
    place_completion "$1"
    write_credentials >"$prefix/credentials.conf"
    place "$prefix/credentials.conf" "$units/$service.d/credentials.conf"
    place_drop_in "$1" listen homelab-agent.socket.d
    place_drop_in "$1" records homelab-agent-resume.service.d
    if [ -e "$prefix/placed" ]; then
        while read -r file; do
            grep -Fqx "$file" "$prefix/placed.new" || { displace "$file"; changed="$changed ${file##*/}"; did "removed $file"; }
        done <"$prefix/placed"
    fi
    mv "$prefix/placed.new" "$prefix/placed"
    rm -f "$prefix/files" "$prefix/credentials.conf"
    systemctl daemon-reload
    case $changed in *.catalog*) journalctl --update-catalog ;; esac
}

place_drop_in() { # of release $1 what a unit needs, of the configuration's $2, beside what it says itself
    as_agent "$prefix/releases/$1/bin/homelab-agent" --config "$etc/config.toml" installing "$2" >"$prefix/$2.conf"
    [ ! -s "$prefix/$2.conf" ] || place "$prefix/$2.conf" "$units/$3/$2.conf"
    rm -f "$prefix/$2.conf"
}

place_completion() { # of release $1, for each shell where it looks by itself
    while read -r shell file; do
        as_agent "$prefix/releases/$1/bin/homelab-agent" completion "$shell" >"$prefix/completion"
        place "$prefix/completion" "/usr/local/share/$file"
    done <<END
bash bash-completion/completions/homelab-agent
zsh zsh/site-functions/_homelab-agent
fish fish/vendor_completions.d/homelab-agent.fish
END
    rm -f "$prefix/completion"
}

write_credentials() { # every file there is a credential of its name; NAME.cred was encrypted by systemd-creds
    echo "# Written by make install: a file in $etc/credentials is the secret credential:NAME."
    echo "[Service]"
    for file in "$etc"/credentials/*; do
        name=${file##*/}
        case $name in
        '*' | *[!a-zA-Z0-9._-]*) ;;
        *.cred) echo "LoadCredentialEncrypted=${name%.cred}:$file" ;;
        *) echo "LoadCredential=$name:$file" ;;
        esac
    done
}

ours() { # the names of our units of a kind that want to be enabled
    grep "^$units/[^/]*\.$1\$" "$prefix/placed" | while read -r file; do
        ! grep -q '^\[Install\]' "$file" 2>/dev/null || echo "${file##*/}"
    done
}
