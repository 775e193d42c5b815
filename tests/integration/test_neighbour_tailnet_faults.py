"""The tailnet breaks as it says: the daemon, its node, control, the certificate, and the relay of the public."""

from __future__ import annotations

import functools
import ssl
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailnet_world import FUNNEL, HTTPS, PORTS
from tests.neighbours.tailscaled import PORT
from tests.published import WEB, Published, is_gone, seen, why_refused
from tests.waiting import until


def test_when_funnel_is_withdrawn_the_relay_refuses_and_the_host_notices_nothing(
    tailnet: Tailnet, published: Published
) -> None:
    with tailnet.homelab.session(WEB) as child:
        tailnet.control.withdraw(FUNNEL)
        until(lambda: is_gone(tailnet, FUNNEL), "the host is told")
        assert '"funnel" node attribute not set' in why_refused(tailnet)
        assert child.runs
        assert {entry.port for entry in tailnet.homelab.entries} == {PORT}
        assert tailnet.homelab.status["Health"] == []
        assert seen(tailnet.laptop)
        tailnet.control.restore()
        assert seen(tailnet.public)


def test_a_port_that_is_not_allowed_is_published_all_the_same_and_refused_by_the_relay(
    tailnet: Tailnet, published: Published
) -> None:
    tailnet.control.allow_ports(443)
    until(lambda: is_gone(tailnet, PORTS), "the host is told")
    with tailnet.homelab.session(WEB):
        assert why_refused(tailnet) == "relay: port 8443 is not allowed for funnel; allowed ports are: 443"


def test_what_a_host_may_not_is_said_by_the_command(tailnet: Tailnet) -> None:
    wanted = ("funnel", f"--https={PORT}", str(WEB))
    for capability, complaint in {HTTPS: "HTTPS must be enabled", PORTS: "is not allowed for funnel"}.items():
        tailnet.control.withdraw(capability)
        until(functools.partial(is_gone, tailnet, capability), "the host is told")
        done = tailnet.homelab.run(*wanted)
        assert done.returncode == 1
        assert complaint in done.stderr
    tailnet.control.withdraw(FUNNEL)
    until(lambda: is_gone(tailnet, FUNNEL), "the host is told")
    done = tailnet.homelab.run(*wanted)
    assert done.returncode == 1
    assert "attribute not set" in done.stderr
    tailnet.control.answer_feature({"text": "Enable it", "url": "https://example.org/", "shouldWait": False})
    done = tailnet.homelab.run(*wanted)
    assert done.returncode == 0
    assert "https://example.org/" in done.stdout + done.stderr
    assert tailnet.homelab.serve_config == {}


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_when_the_daemon_ends_sessions_go_for_good_and_the_background_comes_back(
    tailnet: Tailnet, published: Published, end: str
) -> None:
    homelab = tailnet.homelab
    homelab.publish(WEB, port=10000)
    with homelab.session(WEB) as child:
        getattr(homelab, end)()
        until(lambda: not child.runs, "the command has ended")
        assert child.code in ({1} if end == "kill" else {0, 1})
        with pytest.raises(OSError, match=r"refused|No such file"):
            assert homelab.status
        homelab.start()
        homelab.until_running()
        assert {entry.port for entry in homelab.entries if not entry.session} == {10000}
        until(lambda: tailnet.public.reaches(10000), "the background entry is published")
        assert not tailnet.public.reaches()


def test_frozen_the_daemon_answers_nobody_and_thawed_it_goes_on(tailnet: Tailnet, published: Published) -> None:
    with tailnet.homelab.session(WEB):
        tailnet.homelab.freeze()
        with pytest.raises(TimeoutError):
            tailnet.homelab.ask("GET", "status", seconds=0.5)
        with tailnet.public.reach(PORT) as waiting:
            waiting.settimeout(0.5)
            tls = ssl.create_default_context(cafile=tailnet.ca)
            with pytest.raises(TimeoutError):
                tls.wrap_socket(waiting, server_hostname=tailnet.name)
        tailnet.homelab.thaw()
        assert seen(tailnet.public)


def test_disconnected_it_still_lists_what_it_serves_and_connected_it_serves_it(
    tailnet: Tailnet, published: Published
) -> None:
    with tailnet.homelab.session(WEB) as child:
        tailnet.homelab.down()
        assert tailnet.homelab.backend == "Stopped"
        assert {entry.port for entry in tailnet.homelab.entries} == {PORT}
        assert child.runs
        tailnet.homelab.up()
        until(tailnet.public.reaches, "the public is let in")


def test_logged_out_it_serves_nothing_and_logged_in_it_is_another_node(tailnet: Tailnet, published: Published) -> None:
    before = tailnet.control.hosts()["homelab"].address
    with tailnet.homelab.session(WEB) as child:
        tailnet.homelab.log_out()
        assert tailnet.homelab.backend == "NeedsLogin"
        assert tailnet.homelab.serve_config == {}
        assert child.runs
        tailnet.homelab.log_in()
        assert tailnet.homelab.serve_config == {}
    assert tailnet.control.hosts()["homelab"].address != before
    assert tailnet.homelab.status["Self"]["DNSName"] == f"{tailnet.name}."
    with tailnet.homelab.session(WEB):
        assert seen(tailnet.laptop)
        until(tailnet.public.reaches, "the public is let in")


def test_with_its_shields_up_it_publishes_nothing_and_publishing_it_raises_no_shields(
    tailnet: Tailnet, published: Published
) -> None:
    with tailnet.homelab.session(WEB), pytest.raises(AssertionError, match=r"(?i)shields.up"):
        tailnet.homelab.shield()
    tailnet.homelab.shield()
    done = tailnet.homelab.run("funnel", f"--https={PORT}", str(WEB))
    assert done.returncode == 1
    assert "shields-up is enabled" in done.stderr


def test_a_key_ends_when_it_should_and_who_logs_in_has_a_fresh_one(tailnet: Tailnet, published: Published) -> None:
    homelab = tailnet.homelab
    tailnet.control.expire(timedelta(days=10))
    until(lambda: homelab.status["Self"].get("KeyExpiry"), "the host is told")
    ends = datetime.fromisoformat(homelab.status["Self"]["KeyExpiry"]) - datetime.now(UTC)
    assert timedelta(days=9) < ends < timedelta(days=10, seconds=1)  # rounded
    with homelab.session(WEB):
        tailnet.control.expire()
        until(lambda: homelab.backend == "NeedsLogin", "the host is told")
        assert why_refused(tailnet) == "relay: the node's key has expired"
    homelab.log_in()
    with homelab.session(WEB):
        until(tailnet.public.reaches, "the public is let in")
        assert seen(tailnet.laptop)


def test_a_key_whose_end_is_taken_back_goes_on(tailnet: Tailnet) -> None:
    tailnet.control.expire()
    until(lambda: tailnet.homelab.backend == "NeedsLogin", "the host is told")
    tailnet.control.expire(None)
    tailnet.homelab.until_running()


def test_cut_off_from_control_the_host_says_so_and_goes_on_publishing(tailnet: Tailnet, published: Published) -> None:
    with tailnet.homelab.session(WEB):
        tailnet.control.cut()
        until(lambda: not tailnet.homelab.status["Self"]["Online"], "the host has noticed")
        assert seen(tailnet.public)
        tailnet.control.mend()
        tailnet.homelab.restart()  # it would wait, up to half a minute, before it asks again
        until(lambda: tailnet.homelab.status["Self"].get("Online"), "control is back")


def test_asked_to_wait_for_a_feature_the_command_goes_on_when_it_is_granted(
    tailnet: Tailnet, published: Published
) -> None:
    tailnet.control.withdraw(FUNNEL)
    until(lambda: is_gone(tailnet, FUNNEL), "the host is told")
    tailnet.control.answer_feature({"text": "Wait", "url": "https://example.org/", "shouldWait": True})
    with subprocess.Popen(
        tailnet.homelab.command("funnel", f"--https={PORT}", str(WEB)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        try:
            assert child.stdout is not None
            assert b"Wait" in b"".join(child.stdout.readline() for _ in range(2))
            assert tailnet.homelab.serve_config == {}
            until(lambda: tailnet.control.mark() and tailnet.public.reaches(), "it hears of it and publishes")
        finally:
            child.kill()


def test_without_a_certificate_or_with_a_wrong_one_no_tls_is_spoken(tailnet: Tailnet, published: Published) -> None:
    with tailnet.homelab.session(WEB):
        for spoil in (
            tailnet.remove_certificate,
            lambda: tailnet.place_certificate("other.tail-test.ts.net"),
            lambda: tailnet.place_certificate(lasts=timedelta(hours=-1)),
        ):
            spoil()
            with pytest.raises(ssl.SSLError, match=r"(?i)internal.error"):
                tailnet.public.connect()
            assert tailnet.homelab.status["Health"] == []
        tailnet.place_certificate(trusted=False)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed"):
            tailnet.public.connect()
        tailnet.place_certificate()
        assert seen(tailnet.public)


def test_a_relay_that_fails_is_noticed_only_by_the_public(tailnet: Tailnet, published: Published) -> None:
    with tailnet.homelab.session(WEB):
        tailnet.relay.close()
        assert why_refused(tailnet) == "the connection was closed"
        tailnet.relay.hang()
        with tailnet.public.reach(PORT) as waiting:
            waiting.settimeout(0.5)
            with pytest.raises(TimeoutError):
                ssl.create_default_context().wrap_socket(waiting, server_hostname=tailnet.name)
        assert tailnet.homelab.status["Health"] == []
        assert seen(tailnet.laptop)
        tailnet.relay.carry()
        assert seen(tailnet.public)


def test_whatever_a_test_did_the_next_finds_all_as_it_was(tailnet: Tailnet) -> None:
    homelab = tailnet.homelab
    homelab.operate("nobody")
    homelab.publish(WEB)
    tailnet.control.withdraw(FUNNEL)
    tailnet.control.expire()
    tailnet.remove_certificate()
    tailnet.relay.hang()
    tailnet.control.cut()
    homelab.freeze()
    tailnet.heal()
    assert homelab.backend == "Running"
    assert homelab.serve_config == {}
    assert homelab.ask("GET", "prefs").get("OperatorUser", "") == ""
    homelab.kill()
    tailnet.heal()
    homelab.log_out()
    tailnet.heal()
    with homelab.session(WEB):
        until(tailnet.public.reaches, "the public is let in")
