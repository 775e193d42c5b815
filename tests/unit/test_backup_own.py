"""What the agent's own set has, and where it goes; nothing is run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from homelab_agent.backup import own, swap
from homelab_agent.backup.settings import AGENT_SET, BackupSet, BackupSettings, Repository
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Undo
from homelab_agent.core.lock import DirectoryLock
from homelab_agent.core.whereabouts import Whereabouts


def settings(records: Path, *engines: list[str]) -> BackupSettings:
    return BackupSettings(
        records=records,
        set=[BackupSet(name=f"set-{number}", volumes=["v"], engines=one) for number, one in enumerate(engines)],
        repository=[Repository(name=name, url="/r", password="file:/p") for name in ("near", "far")],
    )


def machine(tmp_path: Path) -> Whereabouts:
    """Return where an agent is that has a state, a database, a configuration and a secret in a file."""
    state = tmp_path / "state"
    (state / "postgres").mkdir(parents=True)
    (state / "state.db").write_bytes(b"1234")
    for name in ("config.toml", "secret"):
        (tmp_path / name).write_text("x")
    return Whereabouts(state, tmp_path / "config.toml", ["false"], [tmp_path / "secret"], ["openbao:a#b"])


def test_it_is_on_with_the_first_other_set_and_goes_wherever_one_goes(tmp_path: Path) -> None:
    assert settings(tmp_path).covered == []
    assert [(one.name, one.engines) for one in settings(tmp_path, ["far"], ["archive"]).covered] == [
        ("set-0", ["far"]),
        ("set-1", ["archive"]),
        (AGENT_SET, ["archive", "far"]),
    ]


def test_it_has_state_database_configuration_and_what_is_trusted(tmp_path: Path) -> None:
    where, known = machine(tmp_path), settings(tmp_path / "records", ["archive"])
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "trust").write_text("")
    found = own.plan(known, where, "archive")
    assert [one.member for one in found.dumps] == [own.STATE, own.DATABASE]
    assert [one.path.name for one in found.sources] == ["config.toml", "trust"]
    assert found.bytes == 5


def test_secrets_go_to_who_encrypts_and_their_absence_is_told(tmp_path: Path) -> None:
    where, known = machine(tmp_path), settings(tmp_path / "records", ["archive", "far"])
    assert [one.path.name for one in own.plan(known, where, "far").sources] == ["config.toml", "secret"]
    notes = " ".join(own.plan(known, where, "archive").notes)
    assert f"not in its archives, which are not encrypted: {tmp_path / 'secret'}" in notes
    assert "openbao:a#b" in notes
    assert "not encrypted" not in " ".join(own.plan(known, where, "far").notes)


def test_a_secret_that_another_than_root_can_make_a_link_is_left_out(tmp_path: Path) -> None:
    where, known = machine(tmp_path), settings(tmp_path / "records", ["far"])
    tmp_path.chmod(0o777)
    found = own.plan(known, where, "far")
    assert [one.path.name for one in found.sources] == ["config.toml"]
    assert "others than root" in " ".join(found.notes)
    tmp_path.chmod(0o755)
    (tmp_path / "secret").unlink()
    (tmp_path / "secret").symlink_to("/etc/shadow")
    assert [one.path.name for one in own.plan(known, where, "far").sources] == ["config.toml"]


def test_a_database_elsewhere_is_not_its_own_to_dump(tmp_path: Path) -> None:
    where = machine(tmp_path)
    elsewhere = Whereabouts(where.directory, where.configuration, where.command, has_embedded=False)
    found = own.plan(settings(tmp_path, ["archive"]), elsewhere, "archive")
    assert [one.member for one in found.dumps] == [own.STATE]
    assert "elsewhere" in " ".join(found.notes)


def test_its_restore_that_was_cut_short_is_taken_back_when_no_agent_runs(tmp_path: Path) -> None:
    live, beside, undos = tmp_path / "state.db", tmp_path / "beside", Undos(tmp_path / "records")
    live.write_text("old")
    beside.write_text("new")
    move = swap.planned(live, beside)
    with undos.alone():
        undos.note(Undo("1", AGENT_SET, "a", datetime.now(UTC), "replacing", places=[live], moves=[move]))
        swap.settle([move], "new")
        with DirectoryLock(tmp_path):
            assert "is left as it is: The agent's own state is not replaced while it runs" in str(undos.heal()[0])
        assert live.read_text() == "new"
        assert "as before it" in str(undos.heal()[0])
    assert live.read_text() == "old"


@pytest.mark.parametrize("name", [AGENT_SET, "place", "disk", "undo"])
def test_no_other_set_has_a_name_that_is_taken(name: str) -> None:
    with pytest.raises(ValueError, match="set"):
        BackupSettings(set=[BackupSet(name=name, volumes=["v"])])
