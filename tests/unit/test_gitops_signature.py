"""Signatures: one form, the published vector, several secrets; ten thousand others that are none."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_agent.gitops import signature
from homelab_agent.gitops.signature import Check, Key, Ring
from tests import payloads

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
BODY = b"Hello, World!"
DIGEST = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

MAIN = Key("homelab", "main")
SPARE = Key("homelab", "spare")
OTHER = Key("other", "main")


def fed(ring: Ring, *chunks: bytes) -> Check:
    check = ring.check()
    for chunk in chunks:
        check.update(chunk)
    return check


def signers(ring: Ring, body: bytes, header: str) -> tuple[Key, ...]:
    claimed = signature.read(header)
    return () if claimed is None else fed(ring, body).signers(claimed)


def test_the_vector_that_github_publishes() -> None:
    ring = Ring([(MAIN, "It's a Secret to Everybody")])
    assert signers(ring, BODY, f"sha256={DIGEST}") == (MAIN,)
    assert signers(ring, BODY + b" ", f"sha256={DIGEST}") == ()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha256",
        "sha256=",
        DIGEST,
        f"sha1={DIGEST[:40]}",
        f"sha1={DIGEST}",
        f"sha512={DIGEST}",
        f"SHA256={DIGEST}",
        f"Sha256={DIGEST}",
        f"sha256={DIGEST.upper()}",
        f"sha256={DIGEST[:-1]}",
        f"sha256={DIGEST}0",
        f"sha256={DIGEST[:-1]}g",
        f"sha256= {DIGEST}",
        f" sha256={DIGEST}",
        f"sha256={DIGEST} ",
        f"sha256={DIGEST}\n",
        f"sha256:{DIGEST}",
        f"sha256={DIGEST},sha256={DIGEST}",
        f"sha256={DIGEST[:-1]}٣",
        f"sha256={DIGEST[:-1]}\udc80",
        f"sha256={'f' * 64}\x00",
    ],
)
def test_anything_but_sha256_and_64_lower_case_digits_is_no_signature(header: str) -> None:
    assert signature.read(header) is None


def test_which_of_several_secrets_it_was_is_known() -> None:
    ring = Ring([(MAIN, "one"), (SPARE, "two"), (OTHER, "three")])
    for key, value in ((MAIN, "one"), (SPARE, "two"), (OTHER, "three")):
        assert signers(ring, BODY, payloads.sign(value, BODY)) == (key,)
    assert signers(ring, BODY, payloads.sign("four", BODY)) == ()


def test_one_value_for_two_repositories_is_tried_once_and_is_both() -> None:
    ring = Ring([(MAIN, "shared"), (OTHER, "shared")])
    assert len(ring) == 1
    assert signers(ring, BODY, payloads.sign("shared", BODY)) == (MAIN, OTHER)


def test_no_secret_at_all_accepts_nothing_not_even_the_signature_of_an_empty_one() -> None:
    assert not Ring([])
    assert signers(Ring([]), BODY, payloads.sign("", BODY)) == ()


def test_a_check_leaves_the_ring_as_it_was() -> None:
    ring = Ring([(MAIN, "one")])
    fed(ring, b"something else")
    assert signers(ring, BODY, payloads.sign("one", BODY)) == (MAIN,)


@pytest.mark.parametrize("value", ["pässwörd", "密码", "a" * 1000, "\udcff from the environment"])
def test_a_secret_may_be_any_text(value: str) -> None:
    raw = value.encode("utf-8", "surrogateescape")
    ring = Ring([(MAIN, value)])
    import hmac

    assert signers(ring, BODY, "sha256=" + hmac.new(raw, BODY, "sha256").hexdigest()) == (MAIN,)


def test_the_last_day_of_a_secret_is_one_on_which_it_is_accepted() -> None:
    key = Key("homelab", "old", expires=date(2026, 11, 28))
    assert not key.has_expired(date(2026, 11, 28))
    assert key.has_expired(date(2026, 11, 29))
    assert not MAIN.has_expired(date.max)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_however_a_body_is_cut_its_signature_is_the_same(chunks: list[bytes]) -> None:
    ring = Ring([(MAIN, "one"), (SPARE, "two")])
    claimed = signature.read(payloads.sign("two", b"".join(chunks)))
    assert claimed is not None
    assert fed(ring, *chunks).signers(claimed) == (SPARE,)


NEARLY = st.one_of(
    st.text(max_size=90),
    st.builds("{}{}".format, st.sampled_from(["sha256=", "sha1=", "SHA256=", ""]), st.text("0123456789abcdefABCDEF")),
    st.builds("sha256={}".format, st.text("0123456789abcdef", min_size=64, max_size=64)),
)


@settings(max_examples=10_000, deadline=None)
@given(header=NEARLY, body=st.binary(max_size=64))
def test_ten_thousand_headers_raise_nothing_and_open_nothing(header: str, body: bytes) -> None:
    ring = Ring([(MAIN, "one"), (OTHER, "two")])
    assert signers(ring, body, header) == ()
