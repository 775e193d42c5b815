"""What key-value stores answer, as recorded from OpenBao 2.7.2, and what it means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from homelab_agent.secrets import health, kv
from homelab_agent.secrets.errors import (
    KeyAbsent,
    NotKeyValue,
    PathAbsent,
    Unreachable,
    VersionDeleted,
    VersionDestroyed,
)
from homelab_agent.secrets.health import State
from homelab_agent.secrets.kv import Mount

NOW = datetime(2026, 11, 28, 20, tzinfo=UTC)
PATH = "secret/homelab/postgres"
MADE = "2026-11-28T19:51:26.645248585Z"
KV2 = Mount("secret", versioned=True)
KV1 = Mount("team/old", versioned=False)


def versions(**last: Any) -> dict[str, Any]:
    present = {"created_time": MADE, "deletion_time": "", "destroyed": False}
    return {"current_version": 2, "versions": {"1": present, "2": {**present, **last}}}


def test_a_secret_has_its_number_its_age_and_texts() -> None:
    data = {
        "data": {"password": "p", "port": 5432, "tls": True, "hosts": ["ä", "b"], "none": None},
        "metadata": {"created_time": MADE, "deletion_time": "", "destroyed": False, "version": 2},
    }
    found = kv.version_2(PATH, data)
    assert (found.number, found.created) == (2, datetime(2026, 11, 28, 19, 51, 26, 645248, UTC))
    assert found.values == {"password": "p", "port": "5432", "tls": "true", "hosts": '["ä", "b"]', "none": "null"}
    assert found.value("port") == "5432"


def test_no_value_is_shown_by_what_holds_it() -> None:
    found = kv.version_1(PATH, {"password": "hunter2-hunter2"})
    assert "hunter2" not in f"{found} {found!r}"
    with pytest.raises(KeyAbsent) as error:
        found.value("pasword")
    assert "it has: password" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_the_current_version_is_what_the_metadata_say() -> None:
    assert kv.current(PATH, versions(), NOW) == 2
    assert kv.current(PATH, versions(deletion_time="2026-11-28T20:00:01Z"), NOW) == 2
    with pytest.raises(VersionDeleted):
        kv.current(PATH, versions(deletion_time="2026-11-28T19:59:59Z"), NOW)
    with pytest.raises(VersionDestroyed):
        kv.current(PATH, versions(destroyed=True), NOW)
    with pytest.raises(PathAbsent):
        kv.current(PATH, {"current_version": 0, "versions": {}}, NOW)


def test_a_404_is_a_path_that_is_absent_or_a_version_that_is_gone() -> None:
    gone = {"data": None, "metadata": {"deletion_time": MADE, "destroyed": False, "version": 2}}
    assert isinstance(kv.absence(PATH, None, cause=""), PathAbsent)
    assert isinstance(kv.absence(PATH, gone, cause=""), VersionDeleted)
    gone["metadata"] = {"deletion_time": "", "destroyed": True, "version": 2}
    assert isinstance(kv.absence(PATH, gone, cause=""), VersionDestroyed)


def test_a_mount_knows_by_which_path_a_policy_names_a_secret() -> None:
    assert kv.usual(PATH) == KV2
    assert (KV2.data(PATH), KV2.metadata(PATH)) == ("secret/data/homelab/postgres", "secret/metadata/homelab/postgres")
    assert (KV1.data("team/old/x"), KV1.inside("team/old/x"), KV1.holds("team/older/x")) == ("team/old/x", "x", False)


def test_the_server_tells_where_a_mount_ends_and_of_which_kind_it_is() -> None:
    assert kv.mount({"path": "secret/", "type": "kv", "options": {"version": "2"}}) == KV2
    assert kv.mount({"path": "team/old/", "type": "kv", "options": {"version": "1"}}) == KV1
    assert kv.mount({"path": "team/old/", "type": "kv", "options": None}) == KV1
    with pytest.raises(NotKeyValue):
        kv.mount({"path": "database/", "type": "database", "options": None})


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"initialized": False, "sealed": True, "standby": True, "version": "2.7.2"}, State.UNINITIALIZED),
        ({"initialized": True, "sealed": True, "standby": True, "version": "2.7.2"}, State.SEALED),
        ({"initialized": True, "sealed": False, "standby": True, "version": "2.7.2"}, State.STANDBY),
        ({"initialized": True, "sealed": False, "standby": False, "version": "2.7.2"}, State.ACTIVE),
    ],
)
def test_a_server_says_how_it_stands(said: dict[str, Any], state: State) -> None:
    assert health.told(said).state is state
    assert health.told(said).detail == f"OpenBao 2.7.2 is {state}"


@pytest.mark.parametrize(
    ("version", "takes"),
    [("2.7.2", True), ("2.4.0", True), ("2.10.0-beta1", True), ("2.3.2", False), ("1.17.3", False), ("", False)],
)
def test_the_log_in_goes_with_the_request_from_openbao_2_4_on(version: str, *, takes: bool) -> None:
    assert health.told({"initialized": True, "version": version}).takes_inline is takes
    assert not health.told({"initialized": True, "version": version, "enterprise": False}).takes_inline


def test_a_server_that_does_not_answer_has_a_state_too() -> None:
    away = health.away(Unreachable(url="http://127.0.0.1:1", cause="refused"))
    assert (away.state, away.repair) == (State.UNREACHABLE, "systemctl status openbao; see also the key secrets.url")
    assert "refused" in away.detail
