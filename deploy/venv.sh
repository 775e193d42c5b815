#!/bin/sh
# Make or update a virtual environment from the locked requirements, once per change of the locks.
#   deploy/venv.sh DIRECTORY run|test
# Every missing prerequisite is one line with the command that mends it.
set -eu
directory=$1
flavour=$2
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/host.sh"

find_python run

# What has no wheel is built by what is locked: for the tests forbiddenfruit, and systemd's journal library where it can be.
locks="build $flavour"
if [ "$flavour" = test ]; then
    locks="build setuptools test"
    ! builds_systemd || locks="$locks systemd"
fi

# What the environment was made from: the locks, the interpreter and this script.
made_from=$( (
    for lock in $locks; do cat "$root/requirements/$lock.txt"; done
    cat "$root/pyproject.toml" "$0"
    "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
    echo "$root $flavour"
) | sha256sum | cut -d ' ' -f 1)
stamp=$directory/made-from-$flavour
[ "$(cat "$stamp" 2>/dev/null || true)" != "$made_from" ] || exit 0

if ! "$directory/bin/python" -c 'import pip' 2>/dev/null || ! fits "$directory/bin/python"; then
    echo "Making $directory with $("$python" --version) ..."
    rm -rf "$directory"
    "$python" -m venv "$directory"
fi
echo "Installing the locked requirements ($flavour) ..."
pip="$directory/bin/python -m pip --disable-pip-version-check --no-input install --quiet"
for lock in $locks; do # what builds is in a lock, too
    $pip --no-build-isolation --require-hashes -r "$root/requirements/$lock.txt"
done
$pip --no-deps --no-build-isolation --editable "$root"
echo "$made_from" >"$stamp"
