"""One question, and the addresses in its answer; whatever else comes is no answer, and nothing worse."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gate import dns

A_WWW = bytes.fromhex("00000100000100000000000003777777076578616d706c6503636f6d0000010001")
"""The question of RFC 8484, section 4.1.1: the addresses of www.example.com."""

CNAME_THEN_A = (
    bytes.fromhex("000081800001000300000000")
    + A_WWW[12:]
    + bytes.fromhex("c00c 0005 0001 00000040 0006 03 6f6e65 c010")  # www: an alias of one.example.com
    + bytes.fromhex("c02d 0001 0001 00000040 0004 cb007101")
    + bytes.fromhex("c02d 0001 0001 00000040 0004 cb007102")
)


def test_the_question_is_that_of_the_standard() -> None:
    assert dns.question("www.example.com", "A") == A_WWW
    assert dns.question("www.example.com.", "A") == A_WWW
    assert dns.question("www.example.com", "AAAA") == A_WWW[:-4] + struct.pack(">HH", 28, 1)


@pytest.mark.parametrize("name", ["", ".", "a..b", "-" * 64, "é.example", ".".join(["a" * 60] * 5)])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|ascii"):
        dns.question(name, "A")


def test_addresses_are_found_behind_an_alias_in_their_order() -> None:
    wanted = (ip_address("203.0.113.1"), ip_address("203.0.113.2"))
    assert dns.answer(CNAME_THEN_A) == dns.Answer(dns.NO_ERROR, wanted)


def test_the_long_ones_too() -> None:
    record = bytes.fromhex("c00c 001c 0001 00000040 0010 20010db8000000000000000000000001")
    head = bytes.fromhex("000081800001000100000000")
    assert dns.answer(head + A_WWW[12:] + record).addresses == (ip_address("2001:db8::1"),)


def test_that_there_is_no_such_name_is_an_answer() -> None:
    assert dns.answer(bytes.fromhex("000081830001000000000000") + A_WWW[12:]) == dns.Answer(dns.NO_SUCH_NAME, ())


@pytest.mark.parametrize("length", range(len(CNAME_THEN_A)))
def test_one_that_is_cut_is_none(length: int) -> None:
    with pytest.raises(dns.NoAnswer, match="too early"):
        dns.answer(CNAME_THEN_A[:length])


def test_a_question_is_none() -> None:
    with pytest.raises(dns.NoAnswer, match="question"):
        dns.answer(A_WWW)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: CNAME_THEN_A[:12] + rest))
def test_whatever_comes_is_understood_or_not(message: bytes) -> None:
    try:
        found = dns.answer(message)
    except dns.NoAnswer:
        return
    assert 0 <= found.code < 16
