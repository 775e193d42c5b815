"""A bare Debian: the root file system that a fresh installation has, made once from this host's package sources."""

from __future__ import annotations

import platform
import subprocess
import tempfile
from pathlib import Path

from tests.neighbours import cache
from tests.neighbours.neighbour import Missing, Neighbour, need_root, program, version_of

PACKAGES = ("systemd", "systemd-sysv", "libnss-systemd", "dbus", "python3", "python3-venv", "git", "make")
"""What there is beside Debian's essential packages and apt: an init, and what `make install` asks for."""

_UNNEEDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_HOOKS = (
    # how this host reaches its sources, and where they are, is not the machine's
    'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',
)


def root() -> Path:
    """Return the directory of its root; it is made where that was not done yet. Nobody writes to it."""
    return cache.kept(_NAME, _made_from(), _make)


def obtain() -> None:
    """Make it: half a minute."""
    root()


_NAME = "bare-debian"


def _made_from() -> list[str]:
    return [_codename(), platform.machine(), *PACKAGES, *_UNNEEDED, *_HOOKS]


def _make(into: Path) -> None:
    need_root("a bare Debian")
    mmdebstrap = program("mmdebstrap", "apt install mmdebstrap")
    apt = Path("/etc/apt")
    sources = [*apt.glob("sources.list"), *apt.glob("sources.list.d/*.list"), *apt.glob("sources.list.d/*.sources")]
    with tempfile.NamedTemporaryFile("w", prefix="homelab-agent-apt-") as settings:
        settings.write(_fetching())
        settings.flush()
        argv: list[str | Path] = [
            # what it mounts and starts ends with it, also when it is killed
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"),
            mmdebstrap,
            *("--quiet", "--mode=root", "--format=directory", "--variant=minbase"),
            f"--include={','.join(PACKAGES)}",
            f"--aptopt={settings.name}",
            *(f"--dpkgopt=path-exclude={path}" for path in _UNNEEDED),
            *(f"--customize-hook={hook}" for hook in _HOOKS),
            _codename(),
            into,
            *sources,
        ]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"a bare Debian cannot be made: {done.stderr.strip()[-500:]}"
        raise Missing(message)


def _fetching() -> str:
    """Return this host's settings of how packages are fetched: proxies, certificates, retries, trust in dates."""
    said = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    kept = ("Acquire::http", "Acquire::Retries", "Acquire::Check-")
    return "".join(f"{line}\n" for line in said.splitlines() if line.startswith(kept))


def _codename() -> str:
    try:
        return platform.freedesktop_os_release()["VERSION_CODENAME"]
    except (OSError, KeyError):
        message = "this host is of no Debian release"
        raise Missing(message) from None


def _version() -> str:
    made = cache.place(_NAME, _made_from())
    if not made.exists():
        message = "it is not made yet: make neighbours"
        raise Missing(message)
    asked = ["dpkg-query", f"--admindir={made}/var/lib/dpkg", "--show", "--showformat=${Version}", "systemd"]
    return f"{(made / 'etc/debian_version').read_text().strip()}, systemd {version_of(asked)}"


NEIGHBOUR = Neighbour("bare Debian", "mmdebstrap, the host's sources", version=_version, obtain=obtain)
