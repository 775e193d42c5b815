#!/bin/sh
# Make the wheels of a release: run by release.sh as a user that exists for this alone, in the unpacked sources.
#   wheels.sh PYTHON yes|no all|own    whether systemd's journal library is to be built, too; whether only our own
# Wheels go to standard output as a tar, what is said to standard error. Everything was locked with hashes.
set -eu
python=$1
builds=$2
which=$3
exec 3>&1 >&2
export HOME="$CACHE_DIRECTORY"
mkdir wheels
"$python" -m venv env
pip() { env/bin/python -m pip --disable-pip-version-check --no-input "$@"; }
pip install --quiet --require-hashes -r requirements/build.txt
[ "$which" = own ] || pip wheel --quiet --only-binary :all: --require-hashes --wheel-dir wheels -r requirements/run.txt
if [ "$which" != own ] && [ "$builds" = yes ]; then # what builds it is locked, too
    { pip install --quiet --require-hashes -r requirements/setuptools.txt &&
        pip wheel --quiet --no-build-isolation --require-hashes --wheel-dir wheels -r requirements/systemd.txt; } ||
        echo "systemd's journal library could not be built: it goes without."
fi
env/bin/python -c 'from flit_core import buildapi; buildapi.build_wheel("wheels")'
tar -C wheels -cf - . >&3
cd ..
rm -rf work
