"""Who has taken the agent over gets nothing from the root half but what is on its list, with names that it knows."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from homelab_agent import capabilities
from tests.intruder import CONFIG, CREDENTIALS, SOCKET, UNIT, USER, Asked, Home, broken_in, call
from tests.neighbours.neighbour import need_root

SHA = "0" * 40
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


def one_of(*names: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def digits(*lengths: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, str) and len(value) in lengths and re.fullmatch("[0-9a-f]+", value) is not None
    )


def word(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 200 and ".." not in value and WORD.fullmatch(value) is not None


FITS: Mapping[str, Callable[[object], bool]] = {
    "repository": one_of("site", "nest"),
    "action": one_of("deploy"),
    "engine": one_of("archive", "offsite"),
    "set": one_of("papers", "agent"),
    "archive": word,
    "run": word,
    "section": digits(64),
    **dict.fromkeys(("sha", "old", "new", "head"), digits(40, 64)),
    "shas": lambda value: isinstance(value, list) and len(value) <= 500 and all(map(digits(40, 64), value)),
    "plan": lambda value: isinstance(value, bool),
    "probe": lambda value: type(value) is int and 0 <= value <= 1,
}
"""What an argument may be, said here once more: anything else is refused before anything is done."""

PROPER: Mapping[str, Any] = {
    "repository": "site", "action": "deploy", "engine": "archive", "set": "papers", "archive": "papers/none",
    "run": "r1", "sha": SHA, "old": SHA, "new": SHA, "head": SHA, "shas": [SHA], "plan": True, "probe": 0,
}  # fmt: skip
VERBS: Mapping[str, Sequence[str]] = {
    "metrics_disks": (),
    "metrics_containers": (),
    "git_sync": ("repository", "section", "sha"),
    "git_plan": ("repository", "section", "sha"),
    "git_changed": ("repository", "section", "old", "new"),
    "git_contained": ("repository", "section", "head", "shas"),
    "git_rollback": ("repository", "section", "sha", "plan"),
    "run_action": ("repository", "section", "action"),
    "run_probe": ("repository", "section", "probe"),
    "restart_agent": (),
    "backup_plan": (),
    "backup_run": ("engine", "set", "run"),
    "backup_list": ("engine",),
    "backup_verify": ("engine", "archive"),
    "backup_drill": ("engine", "archive"),
    "backup_forget": ("engine", "archive"),
    "backup_sweep": ("engine",),
    "backup_resume": (),
}
"""Each verb that there is, with its arguments. A new one is added here, and what it may be to `FITS` and `PROPER`."""

HOSTILE: Sequence[Any] = (
    "", " ", ".", "..", "/", "//", "../../etc/passwd", "/etc/shadow", "site/../../root", "site/", "/srv/papers",
    "-", "-rf", "--help", "--exec=/bin/sh", "-oProxyCommand=id", "--upload-pack=id", "site --force", "site;id",
    "$(id)", "`id`", "site|id", "site&", "*", "?", "~root", "site\n", "\nsite", "site\r\n", "site\0", "\0", "si\0te",
    "site\t", "SITE", "Site", "s\u0456te", "site\u200b", "\u202esite", "\ud800", "\u007f", "a" * 201, "x" * 20_000,
    "a" * 39, "a" * 41, "A" * 40, "g" * 40, "0" * 40 + "\n", " " + "0" * 40, "HEAD", "refs/heads/main", "HEAD~1",
    "@{-1}", "0" * 63, "0" * 65, "deploy\n", "archive\n", "offsite ", "papers\0", "agent/", "none", "null", "true",
    None, True, False, 0, 1, 2, -1, 2**63, 10**40, 0.5, float("inf"), float("nan"), [], ["site"], [[]], ["0" * 39],
    [None], ["0" * 40] * 501, ["-rf"], {}, {"site": "site"}, {"$ne": ""}, [{"name": "site"}],
)  # fmt: skip


CUT_OFF: Sequence[str] = []
BY_THE_VERB = ["ready", "refused"]
"""What it was told fits, and what came with it does not: the verb has done nothing yet."""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    need_root("a machine with systemd")
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-test-"))
    try:
        with broken_in(directory) as one:
            yield one
    finally:
        shutil.rmtree(directory)


def proper(home: Home, verb: str) -> dict[str, Any]:
    """Return arguments that a verb takes."""
    return {name: home.sections["site"] if name == "section" else PROPER[name] for name in VERBS[verb]}


def refused(home: Home, calls: Sequence[Asked], *, also: Sequence[Sequence[str]] = ()) -> None:
    """Fail unless each is refused, and nothing has changed; `also` is what else may be said."""
    before = home.kept()
    for asked, said in zip(calls, home.ask(calls), strict=True):
        words = [word for message in said for word in message]
        assert words in (["refused"], *also), f"{str(asked.request)[:200]}: {said}"
    assert home.kept() == before
    assert home.machine.show(f"{UNIT}.service")["NRestarts"] == "0"


def test_each_verb_that_there_is_is_tried(home: Home) -> None:
    assert {name: set(verb.arguments) for name, verb in home.verbs.items()} == {
        name: set(arguments) for name, arguments in VERBS.items()
    }
    rooms = {name for name in capabilities.NAMES if capabilities.has_room(name, "verbs")}
    assert rooms == {"metrics", "gitops", "backup"}, "a room with verbs: switch it on in tests/intruder.py"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("verb", VERBS)
def test_a_hostile_name_is_refused_before_anything_is_done(home: Home, verb: str) -> None:
    calls = []
    for name in VERBS[verb]:
        wrong = [value for value in HOSTILE if not FITS[name](value)]
        assert len(wrong) > len(HOSTILE) / 2
        calls += [call(verb, {**proper(home, verb), name: value}) for value in wrong]
        left_out = {key: value for key, value in proper(home, verb).items() if key != name}
        if name not in home.verbs[verb].optional:
            calls.append(call(verb, left_out))
    arguments = proper(home, verb)
    for extra in ("path", "-rf", "user", "environment", "", "\0", "__class__"):
        calls.append(call(verb, {**arguments, extra: "x"}))
    for instead in ([], None, "x", 1, [arguments]):
        calls.append(call(verb, instead))
    calls.append(Asked({"verb": verb, "arguments": arguments, "user": "root"}))
    calls += [
        call(name, arguments) for name in (f"{verb}\0", f"{verb} ", verb.upper(), f"../{verb}", [verb], {verb: 1})
    ]
    calls.append(call(verb, arguments, *[b""] * 9))
    refused(home, calls, also=[CUT_OFF])
    outcomes = {one["outcome"] for one in home.called() if one.get("verb") == verb}
    assert outcomes == {"refused"}


def test_what_is_no_call_is_cut_off(home: Home) -> None:
    bodies = (b"", b"\0" * 100, b"\xff\xfe", b"[]", b'"git_sync"', b"{", b'{"verb":' * 5000, b"[" * 60_000)
    refused(home, [Asked(body) for body in bodies], also=[CUT_OFF])
    names: Sequence[Any] = (
        "",
        "serve",
        "shell",
        "exec",
        "__init__",
        "run",
        "git_sync;id",
        "x" * 60_000,
        None,
        1,
        [],
        {},
    )
    refused(home, [call(name, {}) for name in names])


SECRETS = (
    b"", b"\0", b"nothing", b"[]", b"1", b"null", b"{}", b'{"password": "x"}', b'{"password": 1, "variables": {}}',
    b'{"password": "x", "variables": []}', b'{"password": "x", "variables": null}',
    b'{"password": "x", "variables": {"AWS_ACCESS_KEY_ID": 1}}',
    b'{"password": "x", "variables": {"AWS_ACCESS_KEY_ID": "\\u0000"}}', b"[" * 50_000,
    b'{"password": "' + b"x" * 70_000 + b'", "variables": {}}',
    *(
        json.dumps({"password": "x", "variables": {name: value}}).encode()
        for name, value in (
            ("PATH", "/var/lib/homelab-agent/bin"), ("LD_PRELOAD", "/var/lib/homelab-agent/evil.so"),
            ("HOME", "/var/lib/homelab-agent"), ("RESTIC_PASSWORD_COMMAND", "/var/lib/homelab-agent/bin/restic"),
            ("RESTIC_REPOSITORY", "/var/lib/homelab-agent"), ("ENV", "/var/lib/homelab-agent/bin/sh"),
            ("aws_access_key_id", "x"), ("AWS_ACCESS_KEY_ID=x\nPATH", "/tmp"), ("", "x"),
        )
    ),
)  # fmt: skip
"""What may come by the descriptor that holds a repository's secrets."""


@pytest.mark.timeout(180)
def test_no_variable_reaches_restic_but_those_that_the_configuration_names(home: Home) -> None:
    done = home.shell(
        "mkdir -p ~/bin; for name in setpriv sh prlimit restic env; do"
        " printf '#!/bin/sh\\n/usr/bin/id -un >>/srv/owned\\n' >~/bin/$name; chmod +x ~/bin/$name; done; ls ~/bin"
    )
    assert done.stdout.split() == ["env", "prlimit", "restic", "setpriv", "sh"], done.stderr
    verbs = [name for name, arguments in VERBS.items() if "engine" in arguments]
    for verb in verbs:
        arguments = {**proper(home, verb), "engine": "offsite"}
        calls = [call(verb, arguments, secrets) for secrets in SECRETS] + [call(verb, arguments)]
        refused(home, calls, also=[BY_THE_VERB])
    assert not home.machine.path("/srv/owned").exists()


TOKENS = (b"", b"two words", b"a\nb", b"\0", b"\xff", b"x" * 5000, "s\u0456te".encode())


@pytest.mark.timeout(180)
def test_no_token_reaches_git_that_is_none(home: Home) -> None:
    for verb in ("git_sync", "git_plan", "git_changed", "git_contained", "git_rollback"):
        refused(home, [call(verb, proper(home, verb), token) for token in TOKENS], also=[BY_THE_VERB])


@pytest.mark.timeout(180)
def test_what_is_named_well_and_is_not_there_changes_nothing(home: Home) -> None:
    stale = [call(name, {**proper(home, name), "section": "0" * 64}) for name in VERBS if "section" in VERBS[name]]
    refused(home, stale, also=[BY_THE_VERB])
    before = home.kept()
    for verb in ("backup_verify", "backup_drill", "backup_forget"):
        for archive in ("papers/none", "agent/none", "none", "..none/x", "papers/x/y"):
            said = home.ask([call(verb, {"engine": "archive", "archive": archive})])[0]
            assert "answer" not in said[-1], said
    assert home.kept() == before


@pytest.mark.timeout(180)
def test_what_is_on_the_list_is_done_as_the_configuration_says(home: Home) -> None:
    """Else all else could be refused for another reason."""
    [acted, planned, asked] = home.ask(
        [call(verb, proper(home, verb)) for verb in ("run_action", "git_plan", "run_probe")]
    )
    assert acted[-1]["answer"]["state"] == "ok", acted
    assert home.machine.path("/srv/site/deployed").read_text() == "keeper\n", "as the working copy's owner"
    assert "answer" in planned[-1], planned
    assert asked[-1]["answer"]["holds"] is True
    kept = home.ask([call("backup_run", {"engine": "archive", "set": "papers", "run": "r1"})])[0]
    assert "answer" in kept[-1], kept
    [archive] = home.ask([call("backup_list", {"engine": "archive"})])[0][-1]["answer"]["archives"]
    assert home.shell(f"cat /var/backups/homelab-agent/{archive['id']}*").returncode != 0, "its copies are root's"


DEPLOY = r"""
printf '#!/bin/sh\n/usr/bin/id -un >>%s/as\n' "$1" >"$1/deploy.sh"; chmod 755 "$1/deploy.sh"
"""


@pytest.mark.timeout(180)
def test_who_owns_the_folder_above_a_working_copy_has_nothing_run_as_another(home: Home) -> None:
    """The working copy's owner is who its actions run as: so nobody else may say which directory that is."""
    deploy = call("run_action", {"repository": "nest", "section": home.sections["nest"], "action": "deploy"})
    home.shell(f"set -- /home/keeper/nest; {DEPLOY}", user="keeper")
    assert "answer" in home.ask([deploy])[0][-1]
    assert home.machine.path("/home/keeper/nest/as").read_text() == "keeper\n"

    home.machine("install", "-d", "-o", "operator", "-m", "0777", "/srv/shared")
    for other in ("/tmp", "/srv/shared"):
        done = home.shell(f"mv ~/nest ~/before; ln -s {other} ~/nest; set -- {other}; {DEPLOY}", user="keeper")
        assert done.returncode == 0, done.stderr
        [*_, said] = home.ask([deploy])[0]
        assert "may put another directory" in said["failed"]["message"], said
        assert not home.machine.path(f"{other}/as").exists()
        home.shell("rm ~/nest; mv ~/before ~/nest", user="keeper")
    assert "answer" in home.ask([deploy])[0][-1]


CLOSED = (
    f"cat {CREDENTIALS}/api-token", f"cat {CREDENTIALS}/restic", f"ls {CREDENTIALS}", "cat /etc/shadow", "ls /root",
    "cat /srv/papers/will", "ls /var/backups/homelab-agent", "ls /var/lib/homelab-agent-backup",
    "cat /home/keeper/key", "cat /run/credentials/other.service/secret", "cat /proc/1/environ",
    "cat /proc/$HALF/environ", "cat /proc/$HALF/maps", "head -c1 /proc/$HALF/mem", "ls /proc/$HALF/fd",
    "kill -0 $HALF", "kill -0 1", f"echo >>{CONFIG}", f"mv {CONFIG} /tmp/x", f"rm {SOCKET}",
    f"mv {SOCKET} {SOCKET}.old", "touch /run/homelab-agent/x", "echo x >>/srv/site/deployed",
    "git -C /srv/site -c safe.directory='*' commit --allow-empty -m x", "docker ps",
    "docker -H unix:///run/docker.sock info", "cat /var/lib/docker/*", "setpriv --reuid=0 id",
    "systemctl stop homelab-agent-privileged.socket", "systemctl restart docker.service", "systemd-run id",
    "unshare --mount true", "mount -t tmpfs x /mnt", "chroot / id", "mknod /tmp/x b 8 0", "su keeper -c id",
    "sudo -n id", "journalctl --vacuum-size=1 --rotate", "hostname x",
)  # fmt: skip
"""What a shell as the agent's user cannot do, root half or not."""


@pytest.mark.timeout(180)
def test_a_shell_as_the_agents_user_reaches_nothing_of_others(home: Home) -> None:
    home.machine.install(
        "other.service",
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\nLoadCredential=secret:{CREDENTIALS}/s3\nExecStart=true\n",
    )
    home.machine.systemctl("start", "other.service")
    assert home.machine("ls", "/run/credentials/other.service") == "secret"
    home.ask([call("metrics_containers", {})])
    half = home.machine.show(f"{UNIT}.service")["MainPID"]
    assert half != "0"
    assert home.shell("id -un; id -Gn").stdout.split() == [USER, USER], "in no group that has more"
    before = home.kept()
    for script in CLOSED:
        done = home.shell(f"HALF={half}; {script}")
        assert done.returncode != 0, f"{script}: {done.stdout}"
        assert "not found" not in done.stderr or script.startswith("sudo"), f"{script}: {done.stderr}"
    assert home.kept() == before
    for unit in (f"{UNIT}.socket", "docker.service"):
        assert home.machine.show(unit)["ActiveState"] == "active"


def test_dockers_socket_is_there_and_closed(home: Home) -> None:
    assert home.machine("docker", "-H", "unix:///run/docker.sock", "ps", "--quiet") == ""
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/docker.sock')"
    done = home.shell(f'/usr/bin/python3 -I -c "{connect}"')
    assert "PermissionError" in done.stderr


@pytest.mark.timeout(180)
def test_the_socket_is_for_the_agents_user_alone(home: Home) -> None:
    for other in ("operator", "keeper", "nobody"):
        assert home.ask([call("backup_plan", {})], user=other) == [[{"errno": 13}]]
    home.machine("chmod", "0666", SOCKET)
    try:
        before = home.kept()
        for other in ("operator", "keeper", "nobody"):
            assert home.ask([call("run_action", proper(home, "run_action"))], user=other) == [[]], "not even an answer"
        assert home.kept() == before
    finally:
        home.machine("chmod", "0600", SOCKET)
    told = home.machine.journal("HOMELAB_EVENT=privileged.caller_refused")
    operator = int(home.machine("id", "-u", "operator"))
    assert operator in {json.loads(one["MESSAGE"])["caller_uid"] for one in told}
    assert json.loads(told[-1]["MESSAGE"])["level"] == "warning"
