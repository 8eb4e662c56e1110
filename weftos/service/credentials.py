"""Credentials as an agent sees them: ``ctx.credentials``."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from weftos import limits
from weftos.auth.sealing import open_box
from weftos.auth.vault import about_credential
from weftos.service.access_protocol import UseCredential
from weftos.service.client import ServiceClient
from weftos.service.protocol import Done

__all__ = ["Credentials"]


class Credentials:
    """Secrets that the operator keeps for this agent, by name.

    Args:
        client: of the service.
    """

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def get(self, name: str, timeout_s: float = limits.SERVICE_TIMEOUT_S) -> bytes:
        """Return a secret; that this agent got it is on the log then.

        It comes encrypted for this one call, so that it is in no memory that processes share.

        Args:
            name: of the credential.
            timeout_s: in seconds.

        Raises:
            CredentialRefused: there is none of this name for this agent.
            GovernanceDenied: the gate denies it.
            GateDeferred: somebody else decides.
            VaultDamaged: it cannot be decrypted.
            ServiceUnavailable: no answer in time.
        """
        key = X25519PrivateKey.generate()
        request = UseCredential(name, key.public_key().public_bytes_raw())
        values = self._client.ask(request, Done, timeout_s).values
        return open_box(values["box"], key, about_credential(name, values["type"], "use"))
