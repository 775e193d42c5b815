"""The git remotes are real on each transport, let in whom they should, and break as they say."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.neighbours import git, sshd
from tests.neighbours.git import Git
from tests.neighbours.git_host import GitHost
from tests.neighbours.git_remote import GitRemote, Kind
from tests.neighbours.ports import listens
from tests.neighbours.wire import Wire
from tests.processes import children, family, is_alive, state
from tests.waiting import until

FIRST = {"a": "1\n"}
FIRST_SHA = "8f0dfe472b9471b0b675f4a14421bc351d5f0218"
Said = subprocess.CompletedProcess[str]
IMPATIENT = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=1")
each_kind = pytest.mark.parametrize("kind", ["file", "http", "ssh"])
each_server = pytest.mark.parametrize("kind", ["http", "ssh"])


def ask(remote: GitRemote, kind: Kind, *, hurry: bool = False, token: str = "", key: Path | None = None) -> Said:
    """Ask for the branches; in a hurry one gives up after a second."""
    env = remote.env(kind, token=token, key=key)
    if hurry and kind == "ssh":
        env["GIT_SSH_COMMAND"] += " -o ConnectTimeout=1"
    words = (*(IMPATIENT if hurry else ()), "ls-remote", "--heads", remote.url(kind))
    return Git(remote.host.directory, env).run(*words)


def refusal(remote: GitRemote, kind: Kind, *, hurry: bool = False, token: str = "", key: Path | None = None) -> str:
    """Return why one is told nothing."""
    done = ask(remote, kind, hurry=hurry, token=token, key=key)
    assert done.returncode == 128, done.stdout
    return done.stderr


def is_answered(remote: GitRemote, kind: Kind) -> bool:
    """Whether one is told of a branch."""
    return "refs/heads/main" in ask(remote, kind).stdout


def test_debians_git_and_sshd_serve_it(git_remote: GitRemote) -> None:
    service = f"{git_remote.url('http')}/info/refs?service=git-upload-pack"
    request = urllib.request.Request(service, headers={"Git-Protocol": "version=2"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert f"agent=git/{git.NEIGHBOUR.version()}".encode() in answer.read()
    scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(git_remote.host.ssh.port), "127.0.0.1"]
    scanned = subprocess.run(scan, capture_output=True, text=True, check=True)
    assert f"SSH-2.0-OpenSSH_{sshd.NEIGHBOUR.version()}" in scanned.stdout + scanned.stderr
    assert git_remote.known_hosts.read_text().split()[2] in scanned.stdout


@each_kind
def test_what_is_committed_is_cloned_and_fetched_and_what_is_pushed_arrives(
    git_remote: GitRemote, tmp_path: Path, kind: Kind
) -> None:
    first = git_remote.commit(FIRST)
    copy = git_remote.clone(tmp_path / "copy", kind, write=True)
    assert copy("rev-parse", "HEAD") == first
    second = git_remote.commit({"a": "2\n"})
    copy("pull", "-q", "--ff-only")
    assert (copy.path / "a").read_text() == "2\n"
    (copy.path / "b").write_text("mine\n")
    copy("add", "b")
    copy("commit", "-q", "-m", "Mine")
    copy("push", "-q", "origin", "main:topic")
    assert git_remote.branches() == {"main": second, "topic": copy("rev-parse", "HEAD")}
    assert git_remote("show", "topic:b") == "mine"


def test_the_same_commits_have_the_same_shas_whoever_runs_the_tests(
    git_host: GitHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_host.repository().commit(FIRST) == FIRST_SHA
    (tmp_path / ".gitconfig").write_text(
        "[user]\nname = Somebody\n[core]\nhooksPath = /nowhere\n[init]\ntemplateDir=/\n"
    )
    for name, value in {"HOME": tmp_path, "GIT_AUTHOR_NAME": "Somebody", "GIT_DIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    remote = git_host.repository()
    assert remote.commit(FIRST) == FIRST_SHA
    copy = remote.clone(tmp_path / "copy")
    copy("commit", "-q", "--allow-empty", "-m", "Mine")
    assert copy("log", "-1", "--format=%an %ae %cn %ct") == f"{git.NAME} {git.EMAIL} {git.NAME} {git.LATER}"


def test_files_may_be_removed_run_linked_and_be_called_anything(git_remote: GitRemote) -> None:
    git_remote.commit({"gone": "", "run": "#!/bin/sh\n", "octets": b"\xff\0"})
    odd = 'a "quoted"\nname \\ ä'
    git_remote.commit({"gone": None, odd: "", "link": "run"}, modes={"run": "100755", "link": "120000"})
    git_remote.commit({"run": "#!/bin/sh\n"}, modes={"run": "100755"}, message="Über\n\nbody")
    listed = git_remote("ls-tree", "-z", "-r", "main").rstrip("\0").split("\0")
    assert {line.split("\t")[1]: line.split()[0] for line in listed} == {
        odd: "100644",
        "link": "120000",
        "octets": "100644",
        "run": "100755",
    }
    assert git_remote("log", "-1", "--format=%B") == "Über\n\nbody"


def test_a_force_push_replaces_what_was_there(git_remote: GitRemote, tmp_path: Path) -> None:
    first = git_remote.commit(FIRST)
    second = git_remote.commit({"a": "2\n"})
    copy = git_remote.clone(tmp_path / "copy")
    third = git_remote.force_push({"a": "3\n"})
    fetched = copy.run("fetch")
    assert "(forced update)" in fetched.stderr
    assert copy.run("merge", "--ff-only", "origin/main").returncode == 128
    assert copy("rev-parse", "origin/main", "origin/main~1", "HEAD").split() == [third, first, second]
    assert git_remote.force_push(onto=first) == git_remote.sha() == first
    other = git_remote.commit({"b": ""}, branch="other")
    assert git_remote("rev-list", "--count", other) == "1"


def test_a_deleted_branch_is_pruned_and_tags_are_what_they_name(git_remote: GitRemote, tmp_path: Path) -> None:
    first = git_remote.commit(FIRST)
    git_remote.branch("topic")
    assert git_remote.tag("v1") == git_remote.tag("v2", message="Two") == first
    copy = git_remote.clone(tmp_path / "copy", "http")
    assert copy("cat-file", "-t", "v1") == "commit"
    assert copy("cat-file", "-t", "v2") == "tag"
    git_remote.delete_branch("topic")
    git_remote.delete_branch("main")
    assert copy("ls-remote", "--heads") == ""
    copy("fetch", "-q", "--prune")
    assert copy("branch", "-r") == ""


def test_sha256_is_a_format_too(git_host: GitHost, tmp_path: Path) -> None:
    remote = git_host.repository(object_format="sha256")
    sha = remote.commit(FIRST)
    assert len(sha) == 64
    assert remote.clone(tmp_path / "copy", "ssh")("rev-parse", "HEAD") == sha


def test_long_requests_come_packed_and_long_pushes_in_pieces(git_remote: GitRemote, tmp_path: Path) -> None:
    git_remote.commit(FIRST)
    copy = git_remote.clone(tmp_path / "copy", "http")
    for number in range(40):
        copy("commit", "-q", "--allow-empty", "-m", str(number))
    git_remote.commit({"a": "2\n"})
    copy("fetch", "-q")
    assert "gzip" in {asked.encoding for asked in git_remote.requests()}
    content = git_remote.token.encode() * 50_000
    (copy.path / "large").write_bytes(content)
    copy("add", "large")
    copy("commit", "-q", "-m", "Large")
    copy("-c", "http.postBuffer=65536", "-c", "core.compression=0", "push", "-q", "origin", "HEAD:large")
    assert int(git_remote("cat-file", "-s", "large:large")) == len(content)


def test_a_private_repository_is_read_with_its_token_only(git_host: GitHost, tmp_path: Path) -> None:
    remote = git_host.repository(private=True)
    remote.commit(FIRST)
    anonymous = Git(tmp_path, git.environment(tmp_path))
    assert "could not read Username" in anonymous.run("ls-remote", remote.url("http")).stderr
    assert "Authentication failed" in refusal(remote, "http", token="wrong")
    assert "Authentication failed" in refusal(remote, "http", token=git_host.repository().token)
    copy = remote.clone(tmp_path / "copy", "http")
    assert remote.token not in (copy.path / ".git/config").read_text()
    assert {asked.user for asked in remote.requests()} == {"", "x-access-token"}


def test_a_public_repository_is_read_by_anyone_and_written_with_its_token(
    git_remote: GitRemote, tmp_path: Path
) -> None:
    git_remote.commit(FIRST)
    anonymous = Git(tmp_path, git.environment(tmp_path))
    anonymous("clone", "-q", git_remote.url("http"), "copy")
    pushed = Git(tmp_path / "copy", anonymous.env).run("push", "origin", "main:topic")
    assert "could not read Username" in pushed.stderr
    assert list(git_remote.branches()) == ["main"]


def test_a_key_opens_its_own_repository_only_and_for_writing_when_so_made(git_host: GitHost, tmp_path: Path) -> None:
    remote, other = git_host.repository(), git_host.repository()
    remote.commit(FIRST)
    sshd.make_key(tmp_path / "unknown")
    assert "Permission denied (publickey)" in refusal(remote, "ssh", key=tmp_path / "unknown")
    assert "ERROR: Repository not found." in refusal(remote, "ssh", key=other.deploy_key(write=True))
    copy = remote.clone(tmp_path / "copy", "ssh")
    assert "marked as read only" in copy.run("push", "origin", "main:topic").stderr
    assert list(remote.branches()) == ["main"]
    login = [*copy.env["GIT_SSH_COMMAND"].split(), "-p", str(git_host.ssh.port), f"{git_host.ssh.account}@127.0.0.1"]
    shell = subprocess.run([*login, "id"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert shell.returncode == 1
    assert shell.stdout == ""


def test_a_changed_host_key_stops_ssh(git_host: GitHost) -> None:
    remote = git_host.repository()
    remote.commit(FIRST)
    assert is_answered(remote, "ssh")
    git_host.ssh.change_host_key()
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refusal(remote, "ssh")
    remote.known_hosts.write_text(git_host.ssh.known_hosts)
    assert is_answered(remote, "ssh")


def test_gone_it_is_found_by_nobody_and_under_another_name_by_its_keys(git_host: GitHost) -> None:
    remote = git_host.repository()
    remote.commit(FIRST)
    key = remote.deploy_key()
    remote.gone()
    assert "does not appear to be a git repository" in refusal(remote, "file")
    assert "not found" in refusal(remote, "http")
    assert "ERROR: Repository not found." in refusal(remote, "ssh", key=key)
    remote.back()
    old = remote.url("http")
    remote.rename("elsewhere/renamed")
    assert ask(remote, "ssh", key=key).returncode == ask(remote, "http").returncode == 0
    assert "not found" in Git(git_host.directory, remote.env("http")).run("ls-remote", old).stderr


@pytest.mark.parametrize(
    ("status", "said"), [(401, "Authentication failed"), (403, "403"), (404, "not found"), (500, "500")]
)
def test_any_answer_can_be_had_over_http(git_remote: GitRemote, status: int, said: str) -> None:
    git_remote.commit(FIRST)
    git_remote.answer(status)
    assert said in refusal(git_remote, "http")
    git_remote.answer(status, only="git-receive-pack")
    assert is_answered(git_remote, "http")
    git_remote.answer(status, only=".git/git-upload-pack")
    assert f"RPC failed; HTTP {status}" in refusal(git_remote, "http")
    git_remote.mend()
    assert is_answered(git_remote, "http")


def test_slow_it_takes_too_long_for_who_is_in_a_hurry(git_remote: GitRemote) -> None:
    git_remote.commit(FIRST)
    git_remote.slow(10)
    assert "Operation too slow" in refusal(git_remote, "http", hurry=True)
    git_remote.slow(100_000)
    assert is_answered(git_remote, "http")


@each_kind
def test_a_corrupt_object_is_seen_here_and_by_who_fetches(git_remote: GitRemote, tmp_path: Path, kind: Kind) -> None:
    git_remote.commit(FIRST)
    copy = git_remote.clone(tmp_path / "copy", kind)
    second = git_remote.commit({"a": "2\n"})
    spoilt = git_remote.corrupt("main:a")
    with pytest.raises(AssertionError, match=f"{spoilt}: object corrupt or missing"):
        git_remote("fsck")
    assert spoilt in copy.run("fetch").stderr
    assert copy.run("cat-file", "-e", second).returncode != 0
    git_remote.mend()
    copy("pull", "-q", "--ff-only")
    assert copy("rev-parse", "HEAD") == second


@each_server
def test_frozen_it_times_out_killed_it_refuses_and_restarted_it_answers(git_remote: GitRemote, kind: Kind) -> None:
    git_remote.commit(FIRST)
    server = git_remote.host.ssh if kind == "ssh" else git_remote.host.http
    server.freeze()
    assert ("timed out" if kind == "ssh" else "Operation too slow") in refusal(git_remote, kind, hurry=True)
    server.thaw()
    assert is_answered(git_remote, kind)
    server.kill()
    assert ("Connection refused" if kind == "ssh" else "Failed to connect") in refusal(git_remote, kind)
    server.up()
    assert is_answered(git_remote, kind)
    before = server.pid
    server.restart()
    assert server.pid != before
    assert is_answered(git_remote, kind)


def test_a_connection_over_ssh_is_frozen_and_killed_with_the_server(git_remote: GitRemote) -> None:
    git_remote.commit(FIRST)
    server = git_remote.host.ssh
    words = [*git_remote.env("ssh")["GIT_SSH_COMMAND"].split(), "-p", str(server.port), f"{server.account}@127.0.0.1"]
    words.append(f"git-upload-pack '/{git_remote.full_name}.git'")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.read(4)
            everything = [pid for child in children(server.pid) for pid in family(child)]
            assert len(everything) > 2
            server.freeze()
            until(lambda: {state(pid) for pid in everything} == {"T"}, "all of it is stopped")
            server.kill()
            assert client.wait(10) == 255
        finally:
            client.kill()
    until(lambda: not any(map(is_alive, everything)), "all of it has ended")


def test_a_wire_may_be_laid_to_both_servers(git_remote: GitRemote, wire: Wire, tmp_path: Path) -> None:
    git_remote.commit({"a": git_remote.token * 10_000})
    ports: dict[Kind, int] = {"http": git_remote.host.http.port, "ssh": git_remote.host.ssh.port}
    for kind, port in ports.items():
        line = wire(port)
        here = Git(tmp_path, git_remote.env(kind))
        here("clone", "-q", git_remote.url(kind, port=line.port), kind)
        line.cut()
        assert here.run("-C", kind, "fetch").returncode != 0


SCRIPT = """
from tests.neighbours import git_host
with git_host.running() as host:
    print(host.directory, *(server.port for server in host.servers), flush=True)
    input()
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_nobody_listens_when_the_tests_are_over_or_killed(*, is_killed: bool) -> None:
    run = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        directory, *ports = run.stdout.readline().split()
        assert all(listens(int(port)) for port in ports)
        if is_killed:
            run.kill()
        else:
            run.communicate("\n", timeout=20)
    until(lambda: not any(listens(int(port)) for port in ports), "both servers have ended")
    assert Path(directory).exists() == is_killed
    if is_killed:
        subprocess.run(["rm", "-r", directory], check=True)
