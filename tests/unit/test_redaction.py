from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homelab_agent.core.journal.redaction import MASK, Redactor

SECRETS = st.text(min_size=4, max_size=40).filter(lambda text: "*" not in text)


def knowing(*values: str) -> Redactor:
    redactor = Redactor()
    for value in values:
        redactor.add(value)
    return redactor


def test_a_secret_is_masked_wherever_it_stands() -> None:
    redactor = knowing("correct horse")
    assert redactor.mask("password=correct horse; correct horse!") == f"password={MASK}; {MASK}!"


def test_text_without_a_secret_is_left_as_it_is() -> None:
    assert knowing("correct horse").mask("incorrect house") == "incorrect house"


def test_escapes_in_a_url_are_found_in_both_cases() -> None:
    redactor = knowing("p/ss:w?rd")
    assert redactor.mask("http://u:p%2Fss%3Aw%3Frd@h") == f"http://u:{MASK}@h"
    assert redactor.mask("http://u:p%2fss%3aw%3frd@h") == f"http://u:{MASK}@h"


@pytest.mark.parametrize("value", ["", "a", "abc"])
def test_a_value_too_short_to_be_a_secret_does_not_eat_the_log(value: str) -> None:
    assert knowing(value).mask("abc and a b c") == "abc and a b c"


def test_the_password_in_an_http_basic_header_is_masked_at_every_offset() -> None:
    redactor = knowing("s3cr3t-p4ssw0rd")
    for user in ("a", "ab", "abc", "abcd"):
        header = base64.b64encode(f"{user}:s3cr3t-p4ssw0rd:tail".encode()).decode()
        masked = redactor.mask(f"Authorization: Basic {header}")
        before, after = masked.removeprefix("Authorization: Basic ").split(MASK)
        assert len(header) - len(before) - len(after) >= 18  # of the 20 that 15 bytes take


def test_every_line_of_a_private_key_is_masked_on_its_own_and_joined() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n"
    redactor = knowing(key)
    assert redactor.mask("line: MIIEvQIBADANBgkq.") == f"line: {MASK}."
    assert redactor.mask(f"bad key {' '.join(key.split())}.") == f"bad key {MASK}."
    assert "hkiG9w0" not in redactor.mask(json.dumps({"key": key}))


def test_of_two_secrets_that_overlap_nothing_is_left_over() -> None:
    assert knowing("abcdef", "defghi").mask("<abcdefghi>") == f"<{MASK}>"
    assert knowing("abab").mask("<ababab>") == f"<{MASK}>"
    assert knowing("abcdef", "cdef").mask("<abcdef>") == f"<{MASK}>"


@given(SECRETS, st.text(), st.text())
@example("a\x1fb\\c", "", "")
@example('quo"te\n/+?', "", "")
def test_no_spelling_of_a_secret_comes_through(secret: str, before: str, after: str) -> None:
    redactor = knowing(secret)
    data = secret.encode("utf-8", "surrogateescape")
    spellings = [
        secret,
        quote(data),
        quote(data, safe=""),
        quote_plus(secret, errors="surrogateescape"),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
    ]
    for spelling in spellings:
        masked = redactor.mask(before + spelling + after)
        assert MASK in masked
        assert secret not in masked
        assert spelling not in masked or spelling in before or spelling in after


@given(st.lists(SECRETS, max_size=5), st.text())
def test_masking_twice_changes_nothing_more(secrets: list[str], text: str) -> None:
    redactor = knowing(*secrets)
    once = redactor.mask(text.join(secrets))
    assert all(secret not in once for secret in secrets)
    assert redactor.mask(once) == once
