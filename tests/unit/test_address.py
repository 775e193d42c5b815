"""An address shows everything but the password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.database.address import Address, AddressFaulty

passwords = st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: f"pass{text}word")


@given(passwords, st.booleans())
def test_no_password_is_shown_and_psql_could_use_what_is(password: str, in_query: bool) -> None:  # noqa: FBT001
    given_ = quote(password, safe="")
    secret = (
        (f"postgresql://me@nas:5433/home?password={given_}&sslmode=require")
        if in_query
        else (f"postgresql://me:{given_}@nas:5433/home?sslmode=require")
    )
    address = Address.of_url(secret)
    assert address.password == password
    assert address.shown == "postgresql://me@nas:5433/home?sslmode=require"
    assert password not in repr(address)
    assert given_ not in repr(address)


@pytest.mark.parametrize(
    "url", ["", "mysql://x", "nas:5432", "postgresql://me:s3cret@nas:port/x", "postgresql://[me:s3cret"]
)
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(AddressFaulty) as error:
        Address.of_url(url)
    assert "s3cret" not in f"{error.value!r} {error.value} {error.value.repair} {error.value.__cause__}"
