"""Private remotes: git gets in with a key or a token that only the half can read, and nobody else sees the token."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_agent.core import process
from homelab_agent.core.privilege import VerbFailed, VerbRefused
from homelab_agent.gitops.access import ASKPASS
from tests.gitops_half import ROOT, Site, serving
from tests.neighbours.git_host import GitHost
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.sshd import make_key

FILES = {"a.txt": "a\n", "b.txt": "b\n"}


@pytest.fixture(autouse=True)
def _where_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def remote(git_host: GitHost) -> GitRemote:
    """A private repository with one commit."""
    remote = git_host.repository(private=True)
    remote.commit(FILES)
    return remote


@pytest.fixture
def closed(open_directory: Path) -> Path:
    """A directory that only the half's user may enter, as /etc/homelab-agent is."""
    directory = open_directory / "etc"
    directory.mkdir(mode=0o700)
    return directory


def kept(path: Path, content: str) -> str:
    """Write a file that only the half's user may read; return its path."""
    path.write_text(content)
    path.chmod(0o600)
    return str(path)


@contextlib.contextmanager
def handed(token: str) -> Iterator[list[int]]:
    """Give the descriptor of a token, as the agent passes it."""
    descriptor = process.readable(token.encode())
    try:
        yield [descriptor]
    finally:
        os.close(descriptor)


# A deploy key


@pytest.fixture
def by_ssh(open_directory: Path, remote: GitRemote) -> Site:
    """A working copy that lacks a push, of a remote over ssh."""
    site = Site(open_directory, remote, "ssh")
    remote.commit({"a.txt": "new\n"})
    return site


async def test_a_key_that_the_owner_cannot_read_lets_git_in(by_ssh: Site, closed: Path) -> None:
    key = kept(closed / "deploy-key", by_ssh.remote.deploy_key().read_text())
    hosts = kept(closed / "known_hosts", by_ssh.remote.known_hosts.read_text())
    async with serving(by_ssh.directory, by_ssh.settings(deploy_key=key, known_hosts=hosts)) as half:
        assert (await half("git_plan"))["target"] == by_ssh.remote.sha()
        assert (await half("git_sync"))["head"] == by_ssh.remote.sha()
    assert by_ssh.strangers() == []
    assert "deploy-key" not in (by_ssh.path / ".git/config").read_text()


async def test_another_host_key_stops_it(by_ssh: Site, closed: Path) -> None:
    make_key(closed / "other")
    other = (closed / "other.pub").read_text().split()
    key = kept(closed / "deploy-key", by_ssh.remote.deploy_key().read_text())
    hosts = kept(closed / "known_hosts", f"[127.0.0.1]:* {other[0]} {other[1]}\n")
    async with serving(by_ssh.directory, by_ssh.settings(deploy_key=key, known_hosts=hosts)) as half:
        said = await half("git_sync")
        assert said["verdict"] == "fetch_failed"
        assert "its host key is not the one known here" in said["detail"]
        assert any(hosts in line for _, line in half.lines), "the file is named as the configuration names it"
        kept(closed / "known_hosts", "")
        assert "host key" in (await half("git_sync"))["detail"]
    assert (closed / "known_hosts").read_text() == "", "nothing is learnt"


async def test_a_key_that_is_none_or_opens_another_repository_lets_nobody_in(
    by_ssh: Site, closed: Path, git_host: GitHost
) -> None:
    hosts = kept(closed / "known_hosts", by_ssh.remote.known_hosts.read_text())
    key = kept(closed / "deploy-key", git_host.repository().deploy_key().read_text())
    async with serving(by_ssh.directory, by_ssh.settings(deploy_key=key, known_hosts=hosts)) as half:
        assert "Repository not found" in (await half("git_sync"))["detail"]
        kept(closed / "deploy-key", "no key\n")
        said = await half("git_sync")
        assert (said["verdict"], said["head"]) == ("fetch_failed", by_ssh.head)
        assert f'Load key "{key}"' in said["detail"]
        (closed / "deploy-key").unlink()
        with pytest.raises(VerbFailed, match="cannot be read") as caught:
            await half("git_sync")
        assert "deploy_key" in caught.value.repair


async def test_the_settings_of_ssh_and_git_name_no_other_program(by_ssh: Site, closed: Path) -> None:
    key = kept(closed / "deploy-key", by_ssh.remote.deploy_key().read_text())
    hosts = kept(closed / "known_hosts", by_ssh.remote.known_hosts.read_text())
    by_ssh.git("config", "core.sshCommand", f"touch {by_ssh.path}/ran;")
    by_ssh.git("config", "ssh.variant", "simple")
    async with serving(by_ssh.directory, by_ssh.settings(deploy_key=key, known_hosts=hosts)) as half:
        assert (await half("git_sync"))["verdict"] == "ok"
        assert (await half("git_plan"))["verdict"] == "up_to_date"
    assert not (by_ssh.path / "ran").exists()


# A token


@pytest.fixture
def by_http(open_directory: Path, remote: GitRemote) -> Site:
    """A working copy that lacks a push, of a remote over HTTP."""
    site = Site(open_directory, remote)
    remote.commit({"a.txt": "new\n"})
    return site


async def test_a_token_lets_git_in_and_is_kept_nowhere(by_http: Site) -> None:
    store = by_http.directory / "store"
    by_http.git("config", "credential.helper", f"store --file={store}")
    async with serving(by_http.directory, by_http.settings()) as half:
        with handed(f"{by_http.remote.token}\n") as token:
            assert (await half("git_plan", descriptors=token))["target"] == by_http.remote.sha()
            assert (await half("git_sync", descriptors=token))["head"] == by_http.remote.sha()
        assert by_http.remote.requests()[-1].user == "x-access-token"
        assert (await half("git_sync"))["verdict"] == "fetch_failed", "it is not remembered"
    assert not store.exists()
    assert holders(by_http.path, by_http.remote.token) == []


def holders(directory: Path, text: str) -> list[Path]:
    """Return the files in which a text stands."""
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_no_process_has_the_token_among_its_arguments_or_variables(by_http: Site) -> None:
    by_http.remote.slow(2000)
    token, seen = by_http.remote.token.encode(), set[str]()
    async with serving(by_http.directory, by_http.settings()) as half:
        with handed(by_http.remote.token) as descriptors:
            asked = asyncio.create_task(half("git_sync", descriptors=descriptors))
            while not asked.done():
                seen |= await asyncio.to_thread(programs, token)
            assert (await asked)["verdict"] == "ok"
    assert {"sh", "git", "git-remote-http"} <= seen


def programs(token: bytes) -> set[str]:
    """Return the names of those that were told where the token is; nobody has it where others can see it."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (place / "environ").read_bytes()
            assert token not in environment + (place / "cmdline").read_bytes()
            if b"GITOPS_TOKEN=" in environment:
                found.add((place / "comm").read_text().strip())
    return found


async def test_a_wrong_token_and_none_let_nobody_in_and_nobody_is_asked(by_http: Site) -> None:
    asked = by_http.directory / "asked"
    asked.touch()
    asked.chmod(0o666)
    program = by_http.directory / "askpass"
    program.write_text(f"#!/bin/sh\necho $1 >>{asked}\n")
    program.chmod(0o755)
    by_http.git("config", "core.askPass", str(program))
    async with serving(by_http.directory, by_http.settings()) as half:
        with handed("wrong-token-0123456789") as token:
            said = await half("git_sync", descriptors=token)
        assert said["verdict"] == "fetch_failed"
        assert said["detail"].startswith("the remote does not let this user in")
        assert (await half("git_sync"))["detail"].startswith("the remote does not let this user in")
    assert asked.read_text() == ""


async def test_what_git_says_comes_without_the_token(by_http: Site) -> None:
    token = by_http.remote.token
    by_http.git("remote", "set-url", "origin", f"http://127.0.0.1:{by_http.remote.host.http.port}/{token}/x.git")
    async with serving(by_http.directory, by_http.settings()) as half:
        with handed(token) as descriptors:
            said = await half("git_sync", descriptors=descriptors)
    assert said["verdict"] == "fetch_failed"
    assert any("/***/x.git" in line for _, line in half.lines)
    assert token not in f"{said}{half.lines}"


@pytest.mark.parametrize("token", ["", " ", "two words", "tök", "a\0b", "x" * 5000, "two\nlines"])
async def test_what_cannot_be_a_token_is_refused(by_http: Site, token: str) -> None:
    async with serving(by_http.directory, by_http.settings()) as half:
        with handed(token) as descriptors, pytest.raises(VerbRefused, match="token"):
            await half("git_sync", descriptors=descriptors)
        reading, writing = os.pipe()
        with pytest.raises(VerbRefused, match="token"):
            await half("git_sync", descriptors=[reading])
        for end in (reading, writing):
            os.close(end)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("Username for 'https://git.example.org': ", "x-access-token"),
        ("Password for 'https://x-access-token@git.example.org': ", "sesame"),
        ("Password for 'https://x@git.example.org:8443/octo/site.git': ", "sesame"),
        ("Password for 'http://x-access-token@127.0.0.1:3000': ", "sesame"),
        ("Password for 'http://localhost': ", "sesame"),
        ("Password for 'http://x@[::1]:80/': ", "sesame"),
        ("Password for 'http://git.example.org': ", ""),
        ("Password for 'http://127.0.0.1@git.example.org': ", ""),
        ("Password for 'http://127.0.0.1.example.org': ", ""),
        ("Password for 'http://git.example.org/127.0.0.1': ", ""),
        ("Password for 'ftp://git.example.org': ", ""),
        ("Enter passphrase for key 'x': ", ""),
    ],
)
def test_the_token_is_given_away_over_https_or_at_home_only(asked: str, answer: str) -> None:
    with handed("sesame") as (token,):
        env = {"PATH": "/usr/bin:/bin", "GITOPS_TOKEN": str(token)}
        done = subprocess.run([ASKPASS, asked], env=env, pass_fds=[token], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == answer
    assert (done.returncode == 0) == bool(answer)


def test_shellcheck_has_nothing_to_say_to_who_answers() -> None:
    done = subprocess.run(["shellcheck", "-s", "sh", ASKPASS], capture_output=True, text=True, check=False)
    assert done.stdout == ""


# Signatures


async def test_only_what_an_allowed_signer_signed_is_moved_to(by_ssh: Site, closed: Path) -> None:
    signer = closed / "signer"
    make_key(signer)
    signers = kept(closed / "allowed signers", f"ada@example.org {signer.with_suffix('.pub').read_text()}")
    settings = by_ssh.settings(
        deploy_key=kept(closed / "deploy-key", by_ssh.remote.deploy_key().read_text()),
        known_hosts=kept(closed / "known_hosts", by_ssh.remote.known_hosts.read_text()),
        allowed_signers=signers,
    )
    head = by_ssh.head
    async with serving(by_ssh.directory, settings) as half:
        said = await half("git_sync")
        assert (said["verdict"], said["head"]) == ("unsigned", head)
        assert shlex.split(said["repair"][0])[2] == f"gpg.ssh.allowedSignersFile={signers}"
        assert (await half("git_plan"))["verdict"] == "unsigned"
        signed = sign(by_ssh.remote, signer)
        by_ssh.remote.commit({"a.txt": "unsigned\n"})
        assert (await half("git_sync"))["verdict"] == "unsigned"
        done = await half("git_sync", sha=signed)
        assert (done["verdict"], done["head"]) == ("ok", signed)
    assert by_ssh.head == signed


def sign(remote: GitRemote, key: Path) -> str:
    """Add a commit that this key has signed; return its SHA."""
    words = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={key}", "commit-tree", "-S", "-m", "x", "-p", "main")
    made = remote(*words, "main^{tree}")
    remote("update-ref", "refs/heads/main", made)
    return made
