#!/bin/sh
# Install from Debian what the tests talk to, where that is missing: as root on Debian only; elsewhere the tests say
# what they skip and why. No database cluster is made and no service is started.
# TimescaleDB as it was built for the tests needs a PostgreSQL that is not older than the one it was built for.
set -eu
wanted="chromium docker.io busybox-static mmdebstrap openssh-server git sshfs openssh-sftp-server dbus e2fsprogs mount
postgresql-15>=15.20 postgresql-15-postgis-3 mariadb-server-core mariadb-client sqlite3 prometheus-node-exporter zstd
restic smartmontools shellcheck util-linux procps bsdutils iproute2 openssl acl libcap2-bin gcc libc6-dev pkg-config libsystemd-dev
python3-dev systemd libnss-systemd zsh fish"
command -v npm >/dev/null || wanted="$wanted npm" # another Node.js brings its own, which Debian's cannot stand beside
grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release && [ "$(id -u)" -eq 0 ] || exit 0
missing=
for package in $wanted; do # each a name, or name>=least version
    name=${package%>=*}
    least=${package#"$name"}
    found=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$name" 2>/dev/null || true)
    case $found in
    installed\ *) dpkg --compare-versions "${found#installed }" ge "${least#>=}" && continue ;;
    esac
    missing="$missing $name"
done
[ -n "$missing" ] || exit 0
echo "Installing for the tests:$missing"
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi
if [ ! -e /usr/sbin/policy-rc.d ]; then # what the packages ask before they start a service
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
