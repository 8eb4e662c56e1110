"""Which requests about memory a permit is shown with."""

from __future__ import annotations

from typing import Final

import msgspec

from weftos.governance.permits import HeldPermit
from weftos.service.ecc_protocol import (
    DropCollection,
    EccRequest,
    EmbedMemory,
    EmitImpulses,
    ForgetMemory,
    LinkCauses,
    LinkCrossRefs,
    MakeCollection,
    UnlinkCauses,
)

__all__ = ["ACTIONS", "shown"]

#: By which action the gate is asked about what changes memory.
ACTIONS: Final[dict[type, str]] = {
    EmbedMemory: "ecc.embed",
    ForgetMemory: "ecc.forget",
    MakeCollection: "ecc.collection.create",
    DropCollection: "ecc.collection.drop",
    LinkCauses: "ecc.causal.link",
    UnlinkCauses: "ecc.causal.unlink",
    LinkCrossRefs: "ecc.crossref.create",
    EmitImpulses: "ecc.impulse.emit",
}


def shown(request: EccRequest, held: HeldPermit | None) -> EccRequest:
    """Return a request, with the permit for its action if it is held."""
    if held is not None and held.token and ACTIONS.get(type(request)) == held.action:
        return msgspec.structs.replace(request, permit=held.token)
    return request
