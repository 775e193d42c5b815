#!/bin/sh
# Restore from this archive without the program that wrote it: needs a POSIX shell, GNU tar and zstd, as root.
#
#   zstd -dc ARCHIVE.tar.zst | tar -xO restore.sh > restore.sh      get this script
#   sh restore.sh ARCHIVE.tar.zst                                   say what is in it
#   sh restore.sh ARCHIVE.tar.zst DIRECTORY                         unpack all of it there
#   sh restore.sh ARCHIVE.tar.zst DIRECTORY volumes/NAME            unpack one volume, or any other part
#
# A dump is in pieces in the archive, and is joined here: DIRECTORY/dumps/CONTAINER/WHAT. What reads it is in about.json.
set -eu
LC_ALL=C.UTF-8 # in others tar converts names, and may lose parts of them
export LC_ALL

if [ $# -lt 1 ]; then
    sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
    exit 2
fi
archive=$1
[ -r "$archive" ] || { echo "cannot read $archive" >&2; exit 1; }
for program in zstd tar; do
    command -v "$program" >/dev/null || { echo "$program is missing; install it" >&2; exit 1; }
done
zstd -tq "$archive" || { echo "$archive is damaged: take another one" >&2; exit 1; }

if [ $# -lt 2 ]; then
    zstd -dcq "$archive" | tar -xO about.json
    zstd -dcq "$archive" | tar -t | sed -n 's,^\(\(volumes\|paths\|dumps\)/[^/]*\).*,\1,p' | sort -u
    exit
fi
directory=$2
shift 2
mkdir -p "$directory"
zstd -dcq "$archive" | tar -x -C "$directory" --acls --xattrs '--xattrs-include=*' --numeric-owner --same-owner \
    --same-permissions --delay-directory-restore "$@"
[ ! -d "$directory/dumps" ] || find "$directory/dumps" -type f -name 0000 | while IFS= read -r first; do
    dump=${first%/0000}
    mv "$first" "$dump.whole"
    number=1
    while piece=$dump/$(printf %04d "$number") && [ -f "$piece" ]; do
        cat "$piece" >>"$dump.whole"
        rm "$piece"
        number=$((number + 1))
    done
    rmdir "$dump" && mv "$dump.whole" "$dump"
done
echo "unpacked to $directory"
