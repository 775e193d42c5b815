# What this host has: sourced by venv.sh, install.sh and the other scripts beside it, never run.
# shellcheck shell=sh

say() { printf '%s\n' "$*"; }

fail() { # the first line says what is wrong, those after it how it is mended
    say "$1" >&2
    shift
    for line; do say "  $line" >&2; done
    exit 1
}

quoted() { # prints $1 as it is typed in a shell
    case $1 in
    '' | *[!a-zA-Z0-9/._+:=@%-]*) printf "'%s'\n" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s\n' "$1" ;;
    esac
}

install_line() { # the command that installs a package here: $1 Debian, $2 Fedora, $3 Arch, $4 Alpine, $5 openSUSE
    id=$(sed -n 's/^ID=//p; s/^ID_LIKE=//p' /etc/os-release 2>/dev/null | tr -d '"' | tr '\n' ' ')
    sudo=sudo
    [ "$(id -u)" -ne 0 ] || sudo=
    case " $id " in # e.g. " debian ", " ubuntu debian "
    *" debian "* | *" ubuntu "*) echo "$sudo apt-get install -y $1" ;;
    *" fedora "* | *" rhel "*) echo "$sudo dnf install -y $2" ;;
    *" arch "*) echo "$sudo pacman -S --needed $3" ;;
    *" alpine "*) echo "$sudo apk add $4" ;;
    *" suse "* | *" opensuse "*) echo "$sudo zypper install -y $5" ;;
    *) echo "install $1 with this system's package manager" ;;
    esac | sed 's/^ //'
}

fits() { # 3.11 to 3.14
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}

find_python() { # sets $python; $1 is the target that is to be run again with another one
    python=${PYTHON:-}
    if [ -z "$python" ]; then
        for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
            if command -v "$candidate" >/dev/null 2>&1 && fits "$candidate"; then
                python=$candidate
                break
            fi
        done
    fi
    if [ -z "$python" ]; then
        if ! command -v python3 >/dev/null 2>&1; then
            fail "Python is missing. Run: $(install_line 'python3 python3-venv' python3 python python3 python311)"
        fi
        found=$(python3 -c 'import platform; print(platform.python_version())')
        fail "Python 3.11 to 3.14 is needed, this is $found. Run: $(install_line 'python3.11 python3.11-venv' python3.12 python python3 python311), then: make $1 PYTHON=python3.11"
    fi
    fits "$python" || fail "Python 3.11 to 3.14 is needed; PYTHON=$python is not. Run: make $1 PYTHON=python3"
    "$python" -c 'import sys; sys.exit(sys.maxsize <= 2**32)' ||
        fail "A 64-bit system is needed: this Python has 32 bits. Install the 64-bit image of your distribution (uname -m says $(uname -m))."
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "Python's venv module is missing. Run: $(install_line "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" python3 python python3 python311)"
}

builds_systemd() { # whether systemd's journal library, which has no wheel, can be built here
    pkg-config --exists libsystemd 2>/dev/null && command -v cc >/dev/null 2>&1
}
