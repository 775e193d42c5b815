# homelab-agent with the Python that this release was made with. An upgrade of the distribution may have taken that
# away: then it says so, in the journal at each boot, and ends as one whose configuration is faulty, to stay ended.
# shellcheck shell=sh
# shellcheck disable=SC2154 # what is above this in a release is release.sh's: write_launcher
if [ ! -x "$release/bin/$python" ] || [ ! -e "$library/asyncio/__init__.py" ]; then
    [ -z "${JOURNAL_STREAM:-}" ] || printf '<2>' >&2
    printf '%s\n' "homelab-agent: $python, with which this release was installed, is no longer on this host (an upgrade of the distribution replaces it). Run: cd $checkout && sudo make install" >&2
    exit 78
fi
exec "$release/bin/$python" -I -m homelab_agent "$@"
