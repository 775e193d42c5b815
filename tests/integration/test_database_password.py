"""A password of PostgreSQL's that changes while the agent works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import MASK, Redactor
from homelab_agent.core.secret import Secret, SecretRefused, Secrets
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from tests.asked_database import asked, without_password
from tests.neighbours.postgres import Postgres


class There:
    """PostgreSQL with a password in a file, and the agent's way to it."""

    def __init__(self, server: Postgres, directory: Path) -> None:
        self.file = directory / "password"
        self.redactor = Redactor()
        self.server = server
        self.write(server.password)
        secrets = Secrets(self.redactor)
        settings = DatabaseSettings(url=without_password(server.url), password=f"file:{self.file}")
        self.database = Database(settings, secrets, directory=directory, clock=SystemClock())
        self.secret: Secret = secrets.find(f"file:{self.file}")

    def write(self, password: str) -> None:
        self.file.touch(0o600)
        self.file.write_text(password)


@pytest.fixture
async def there(postgres: Postgres, tmp_path: Path) -> AsyncIterator[There]:
    found = await asyncio.to_thread(There, postgres, tmp_path)
    running = asyncio.create_task(found.database.run())
    await asyncio.wait_for(found.database.wait_until_up(), 30)
    yield found
    running.cancel()
    await asyncio.wait([running])


async def test_a_new_password_is_taken_over_and_no_query_fails(there: There) -> None:
    async with asked(there.database) as client:
        for round_ in range(3):
            before = client.answered
            await asyncio.to_thread(there.server.change_password, f"new-password-{round_}")
            await asyncio.to_thread(there.write, f"new-password-{round_}")
            await there.secret.refresh()
            await client.goes_on(before, 100)
        assert not client.failed
    assert there.redactor.mask("new-password-2") == MASK


async def test_one_that_the_server_has_already_is_found_when_the_old_one_is_refused(there: There) -> None:
    async with asked(there.database) as client:
        await asyncio.to_thread(there.write, "changed-meanwhile")
        await asyncio.to_thread(there.server.change_password, "changed-meanwhile")
        await asyncio.to_thread(there.server.disconnect)
        before = client.answered
        await client.goes_on(before, 100)
    assert there.secret.get() == "changed-meanwhile"


async def test_one_that_the_server_refuses_stays_untouched(there: There) -> None:
    old = there.secret.get()
    async with asked(there.database) as client:
        await asyncio.to_thread(there.write, "wrong-password")
        with pytest.raises(SecretRefused) as caught:
            await there.secret.refresh()
        before = client.answered
        await client.goes_on(before, 50)
        assert not client.failed
    assert there.secret.get() == old
    assert "wrong-password" not in f"{caught.value}"
