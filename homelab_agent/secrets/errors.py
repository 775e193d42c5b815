"""What can go wrong with OpenBao: it cannot be asked, there is nothing to ask it with, or it says no."""

from __future__ import annotations

from homelab_agent.core.errors import AgentError, Exit


class CannotAsk(AgentError):
    """OpenBao at {url} cannot be asked.

    Whatever the question: what is known already may go on being used.
    """

    exit_code = Exit.UNREACHABLE

    def again(self) -> CannotAsk:
        """Return an error that says the same, to be raised elsewhere."""
        return type(self)(cause=self.cause, **self.fields)


class Unreachable(CannotAsk):
    """OpenBao at {url} does not answer."""

    repair = "systemctl status openbao; see also the key secrets.url"


class SocketForbidden(Unreachable):
    """The agent's user may not use the socket of OpenBao, {url}."""

    repair = "usermod --append --groups openbao homelab-agent; systemctl restart homelab-agent"


class Slow(CannotAsk):
    """OpenBao at {url} does not answer within {seconds:g} s."""

    repair = "see what holds it up: journalctl -u openbao -e; the key secrets.timeout says how long is waited"


class Sealed(CannotAsk):
    """OpenBao at {url} is sealed."""

    repair = "bao operator unseal; where its seal opens by itself: systemctl restart openbao"


class Standby(CannotAsk):
    """OpenBao at {url} stands by, and there is no active one that it would pass a request to."""

    repair = "bao operator raft list-peers; or name the active one in secrets.url"


class Uninitialized(CannotAsk):
    """OpenBao at {url} was never initialized."""

    repair = "homelab-agent secrets bootstrap"


class Busy(CannotAsk):
    """OpenBao at {url} takes no more requests for now (429)."""

    repair = "bao list sys/quotas/rate-limit"


class Broken(CannotAsk):
    """OpenBao at {url} cannot do what it is asked for ({status})."""

    repair = "journalctl -u openbao -e"


class NotOpenBao(CannotAsk):
    """What answers at {url} is not OpenBao."""

    repair = "see the key secrets.url: http:// or https://, host and port"


class TlsRefused(CannotAsk):
    """The certificate of OpenBao at {url} is not accepted."""

    repair = "set secrets.ca to the certificate that has signed it, and secrets.url to a name that stands in it"


class CaFaulty(CannotAsk):
    """The certificates in {ca}, which are to vouch for OpenBao at {url}, cannot be used."""

    repair = "openssl x509 -noout -subject -in {ca}"


class CannotLogIn(AgentError):
    """What the agent is to log in to OpenBao with cannot be used."""


class TokenFaulty(CannotLogIn):
    """What is given as a token for OpenBao is none: it has a character that no token has."""

    repair = "write the token into its file, and nothing else: no second line, no space, no quotes"


class SecretIdNotKept(CannotLogIn):
    """The secret id that comes wrapped cannot be kept in {directory}."""

    repair = "ls -ld {directory}; df -h {directory}"


class Refused(AgentError):
    """OpenBao says no."""


class LogInRefused(Refused):
    """OpenBao does not let {who} in."""

    repair = (
        "bao read auth/{approle}/role-id of its role and a new secret id: bao write -f "
        "auth/{approle}/role/ROLE/secret-id. After five refusals it lets nobody of that role in for 15 minutes."
    )


class TokenRefused(LogInRefused):
    """OpenBao does not accept the token {reference}."""

    repair = "put a new one there: bao token create -policy=homelab-agent -period=24h"


class WrappingTokenSpent(LogInRefused):
    """The wrapping token {reference} is good for nothing any more: somebody else unwrapped it, or it has expired."""

    repair = (
        "where it cannot have expired, somebody has the secret id: destroy all of the role's; then "
        "bao write -wrap-ttl=10m -f auth/{approle}/role/ROLE/secret-id"
    )


class WrappingTokenForeign(LogInRefused):
    """The wrapping token {reference} holds no secret id of {approle}, but what was made at {creation_path}."""

    repair = "somebody put it there: make a new one, bao write -wrap-ttl=10m -f auth/{approle}/role/ROLE/secret-id"


class Denied(Refused):
    """OpenBao does not let {who} read {path}."""

    repair = 'add to its policy: path "{path}" {{ capabilities = ["read"] }}'


class PathAbsent(Refused):
    """OpenBao holds no secret at {path}."""

    repair = "bao kv put {path} KEY=VALUE"


class Unexpected(Refused):
    """OpenBao refuses what was asked of {path} ({status})."""

    repair = "journalctl -u openbao -e"


class NotKeyValue(Refused):
    """What is mounted at {mount} is no key-value store, but of the kind {kind}."""

    repair = "name a secret of a key-value store: bao secrets list"


class KeyAbsent(Refused):
    """The secret at {path} has no key {key}; it has: {keys}."""

    repair = "bao kv patch {path} {key}=VALUE"


class VersionGone(Refused):
    """The secret at {path} is there, but not its version {version}."""

    repair = "bao kv metadata get {path}"


class VersionDeleted(VersionGone):
    """Version {version} of the secret at {path} was deleted."""

    repair = "bao kv undelete -versions={version} {path}"


class VersionDestroyed(VersionGone):
    """Version {version} of the secret at {path} was destroyed."""

    repair = "bao kv put {path} KEY=VALUE"


class NoSnapshots(Refused):
    """OpenBao keeps its data in a storage that no snapshot can be taken of."""

    repair = 'storage "raft" in its configuration; the data is moved by: bao operator migrate'


class SnapshotBroken(AgentError):
    """The snapshot of OpenBao's storage is not whole."""

    repair = "journalctl -u openbao -e"
