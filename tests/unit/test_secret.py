from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core import secret
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import MASK, Redactor
from homelab_agent.core.secret import Local, Secret, Secrets
from tests.clock import MovableClock


def find(reference: str, redactor: Redactor, clock: MovableClock | None = None, **more: Any) -> Secret:
    return Secrets(redactor, clock, **more).find(reference)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("hunter22\n")
    path.chmod(0o600)
    return path


def test_a_variable_a_file_and_a_credential_are_read(
    file: Path, redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "from the environment")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert find("env:TOKEN", redactor).get() == "from the environment"
    assert find(f"file:{file}", redactor).get() == "hunter22"
    file.chmod(0o440)  # as systemd does
    assert find("credential:token", redactor).get() == "hunter22"


def test_it_is_read_late_and_then_held(file: Path, redactor: Redactor) -> None:
    found = find(f"file:{file}", redactor)
    file.write_text("later")
    assert found.get() == "later"
    file.unlink()
    assert found.get() == "later"


def test_whatever_was_read_is_masked(file: Path, redactor: Redactor) -> None:
    found = find(f"file:{file}", redactor)
    assert redactor.mask("hunter22") == "hunter22"
    found.get()
    assert redactor.mask("password hunter22") == f"password {MASK}"


def test_it_never_shows_itself(file: Path, redactor: Redactor) -> None:
    found = find(f"file:{file}", redactor)
    found.get()
    shown = [
        repr(found),
        str(found),
        f"{found}",
        f"{found:>60}",
        f"{found!r}",
        format(found),
        json.dumps([found], default=str),
    ]
    assert all("hunter22" not in text and str(file) in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(found)
    with pytest.raises(TypeError):
        copy.deepcopy(found)
    with pytest.raises(TypeError):
        vars(found)


@pytest.mark.parametrize("given", ["", "openbao:kv/a#b", "env:", "fil:/hunter22", "Env:hunter22"])
def test_what_is_meant_as_a_reference_and_is_none_is_refused_and_not_repeated(given: str, redactor: Redactor) -> None:
    with pytest.raises(secret.ReferenceFaulty) as caught:
        find(given, redactor)
    assert "hunter22" not in f"{caught.value} {caught.value.repair}"
    assert "env:, file:, credential:" in str(caught.value)


def test_a_scheme_can_be_added(redactor: Redactor) -> None:
    secrets = Secrets(redactor)
    secrets.add_origin("openbao", Local(lambda name: f"value of {name}"))
    assert secrets.find("openbao:kv/a#b").get() == "value of kv/a#b"


@pytest.mark.parametrize("given", ["hunter22", "hunter22:", ":x12345", "ghp:12345"])
def test_a_text_that_is_no_reference_is_the_value_itself_and_not_shown(given: str, redactor: Redactor) -> None:
    secrets = Secrets(redactor)
    found = secrets.find(given)
    assert redactor.mask(f"x {given}") == f"x {MASK}"
    assert found.get() == given
    assert given not in f"{found!r} {secrets.standings()}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_a_file_open_to_others_is_refused_with_the_command_that_mends_it(
    mode: int, file: Path, redactor: Redactor
) -> None:
    file.chmod(mode)
    with pytest.raises(secret.SecretExposed) as caught:
        find(f"file:{file}", redactor).get()
    assert caught.value.repair == f"chmod 600 {file}"


@as_root
def test_a_file_of_another_user_is_refused(file: Path, redactor: Redactor) -> None:
    os.chown(file, 65534, 65534)
    with pytest.raises(secret.SecretOfAnother) as caught:
        find(f"file:{file}", redactor).get()
    assert caught.value.repair == f"chown 0 {file}"


def test_what_is_not_there_says_so(tmp_path: Path, redactor: Redactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for reference in ("env:NO_SUCH", f"file:{tmp_path}/none", "credential:token"):
        with pytest.raises(secret.SecretMissing) as caught:
            find(reference, redactor).get()
        assert reference in str(caught.value)
        assert caught.value.repair
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in ("none", "../etc/hostname", ".."):
        with pytest.raises(secret.SecretMissing):
            find(f"credential:{name}", redactor).get()


def test_what_is_no_secret_is_refused(tmp_path: Path, redactor: Redactor) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for name, content in (("empty", b"\n"), ("binary", b"\xff\xfe"), ("long", b"x" * 100_000)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    for name in ("pipe", "directory", "empty", "binary", "long"):
        with pytest.raises(AgentError):
            find(f"file:{tmp_path / name}", redactor).get()


async def test_a_new_value_is_tried_by_all_before_any_adopts_it(file: Path, redactor: Redactor) -> None:
    found = find(f"file:{file}", redactor)
    assert await found.refresh()
    seen: list[str] = []

    def step(name: str) -> secret.Step:
        async def take(new: str) -> None:
            await asyncio.sleep(0)
            seen.append(f"{name} {new}")

        return take

    found.on_change(step("a tries"), step("a adopts"))
    end = found.on_change(step("b tries"), step("b adopts"))
    await asyncio.to_thread(file.write_text, "changed")
    assert await found.refresh()
    assert seen == ["a tries changed", "b tries changed", "a adopts changed", "b adopts changed"]
    assert not await found.refresh()
    assert len(seen) == 4
    end()
    await asyncio.to_thread(file.write_text, "changed again")
    assert await found.refresh()
    assert len(seen) == 6
    assert redactor.mask("hunter22 changed again") == f"{MASK} {MASK}"


async def test_a_value_that_one_cannot_use_is_adopted_by_none(file: Path, redactor: Redactor) -> None:
    found = find(f"file:{file}", redactor)
    await found.refresh()
    adopted: list[str] = []

    async def passes(_: str) -> None:
        pass

    async def fails(_: str) -> None:
        raise OSError(13, "password wrong one refused")

    async def adopt(new: str) -> None:
        adopted.append(new)

    found.on_change(passes, adopt)
    found.on_change(fails, adopt)
    await asyncio.to_thread(file.write_text, "wrong one")
    with pytest.raises(secret.SecretRefused, match=r"password \*\*\* refused"):
        await found.refresh()
    assert (found.get(), found.accepted(), adopted) == ("hunter22", ("hunter22",), [])
    assert redactor.mask("wrong one") == MASK


async def test_an_adoption_that_fails_does_not_keep_the_others_from_it(file: Path, redactor: Redactor) -> None:
    found = find(f"file:{file}", redactor)
    await found.refresh()
    adopted: list[str] = []

    async def passes(_: str) -> None:
        pass

    async def fails(_: str) -> None:
        raise OSError(5, "pool gone")

    async def adopt(new: str) -> None:
        adopted.append(new)

    found.on_change(passes, fails)
    found.on_change(passes, adopt)
    await asyncio.to_thread(file.write_text, "changed")
    with pytest.raises(secret.AdoptionIncomplete, match="pool gone"):
        await found.refresh()
    assert (found.get(), adopted) == ("changed", ["changed"])


async def test_the_old_value_is_accepted_for_an_overlap(file: Path, redactor: Redactor) -> None:
    clock = MovableClock()
    found = find(f"file:{file}", redactor, clock, overlap=60)
    await found.refresh()
    await asyncio.to_thread(file.write_text, "changed")
    await found.refresh()
    assert found.accepted() == ("changed", "hunter22")
    await clock.advance(59)
    assert found.accepted() == ("changed", "hunter22")
    await clock.advance(2)
    assert found.accepted() == ("changed",)


async def test_two_refreshes_at_once_change_once(file: Path, redactor: Redactor) -> None:
    found = find(f"file:{file}", redactor)
    await found.refresh()
    await asyncio.to_thread(file.write_text, "changed")
    assert sorted(await asyncio.gather(found.refresh(), found.refresh())) == [False, True]


async def test_a_source_that_hangs_holds_nobody_else(redactor: Redactor, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    found = Secrets(redactor, origins={"share": Local(lambda _: os.read(reading, 10).decode())}).find("share:x")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(found.refresh(), 0.05)
    os.write(writing, b"back")
    for descriptor in (writing, reading):
        os.close(descriptor)
