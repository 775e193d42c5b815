"""What the embedded server is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_agent.database import tuning


@pytest.mark.parametrize(("major", "known"), [(14, False), (17, False), (18, True)])
def test_a_version_is_only_told_what_it_knows(major: int, *, known: bool) -> None:
    assert ("io_method = 'sync'" in tuning.configuration(major, Path("/run/x"), 5432)) is known


def test_it_brings_its_tables_up_to_date_as_often_as_is_asked_and_keeps_what_makes_it_safe() -> None:
    text = tuning.configuration(18, Path("/run/x"), 5432, checkpoint_every=86400.0)
    assert "checkpoint_timeout = '86400s'" in text
    assert "checkpoint_timeout = '3600s'" in tuning.configuration(18, Path("/run/x"), 5432)
    assert not {"fsync", "full_page_writes", "synchronous_commit"} & set(text.split())


def test_nothing_listens_on_tcp_and_odd_paths_stay_whole() -> None:
    text = tuning.configuration(18, Path('/srv/it\'s a, "home"'), 5432)
    assert "listen_addresses = ''" in text
    assert 'unix_socket_directories = \'"/srv/it\'\'s a, ""home"""\'' in text
