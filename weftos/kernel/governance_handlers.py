"""The control socket's methods about the gate, the rules, environments and approvals: passed on to the service.

What a person decides carries his name, which the system tells. A process of an agent is none: the socket refuses it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from weftos.errors import InvalidRequest
from weftos.governance.constitution import Supersede
from weftos.kernel.acting import Acting
from weftos.kernel.service_host import ServiceHost
from weftos.rpc import governance_types as g
from weftos.rpc import types as t
from weftos.service import governance_protocol as p

__all__ = ["GovernanceHandlers"]

R = TypeVar("R")


class GovernanceHandlers:
    """All methods below ``gate.``, ``governance.`` and ``env.``.

    Args:
        service: which decides.
        acting: says who asks.
    """

    def __init__(self, service: ServiceHost, acting: Acting) -> None:
        self._service = service
        self._acting = acting

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {
            "gate.check": self.check,
            "gate.pending": self.pending,
            "gate.approve": self.approve,
            "gate.deny": self.deny,
            "governance.show": self.show,
            "governance.rules": self.rules,
            "governance.simulate": self.simulate,
            "governance.supersede": self.supersede,
            "env.list": self.environments,
            "env.switch": self.switch,
        }

    async def check(self, params: g.GateCheckParams) -> g.GateVerdict:
        asked = {"agent": str(params.pid), "action": params.action, "context": params.context}
        return await self._ask("check", g.GateVerdict, asked)

    async def pending(self, params: g.GatePendingParams) -> g.GateRequestList:
        return await self._ask("pending", g.GateRequestList, msgspec.structs.asdict(params))

    async def approve(self, params: g.ApproveParams) -> g.GateRequestView:
        change = p.ApproveRequest(params.request, params.valid_secs)
        return await self._change(change, g.GateRequestView, params.reason)

    async def deny(self, params: g.RefuseParams) -> g.GateRequestView:
        return await self._change(p.RefuseRequest(params.request), g.GateRequestView, params.reason)

    async def show(self, _params: t.NoParams) -> g.ConstitutionView:
        return await self._ask("show", g.ConstitutionView, {})

    async def rules(self, params: g.RulesParams) -> g.GovernanceRuleList:
        return await self._ask("rules", g.GovernanceRuleList, {"after": params.after})

    async def simulate(self, params: g.SimulateParams) -> g.SimulationView:
        asked = msgspec.structs.asdict(params)
        pid = asked.pop("pid")
        return await self._ask("simulate", g.SimulationView, asked | ({} if pid is None else {"agent": str(pid)}))

    async def supersede(self, params: g.SupersedeParams) -> g.SupersedeResult:
        try:
            change = msgspec.convert(params.change, Supersede)
        except (msgspec.ValidationError, TypeError, RecursionError) as error:
            raise InvalidRequest(f"the change is malformed: {error}") from error
        wanted = p.SupersedeRules(change.to_payload())
        return await self._change(wanted, g.SupersedeResult, "it is signed")

    async def environments(self, _params: t.NoParams) -> g.EnvironmentList:
        return await self._ask("environments", g.EnvironmentList, {})

    async def switch(self, params: g.SwitchParams) -> g.SwitchResult:
        fields = params.fields | {"name": params.name, "environment_class": "custom"} if params.fields else None
        if fields is None:
            known = (await self.environments(t.NoParams())).environments
            found = next((one for one in known if one.name == params.name), None)
            if found is None:
                names = ", ".join(one.name for one in known)
                raise InvalidRequest(
                    f"there is no environment {params.name!r}; there are {names}, or one of your own with a threshold"
                )
            fields = {name: value for name, value in msgspec.structs.asdict(found).items() if name != "active"}
        wanted = p.SwitchEnvironment(fields)
        values = await self._changed(wanted, params.reason)
        return g.SwitchResult(name=params.name, record=values["record"])

    async def _ask(self, question: str, kind: type[R], params: dict[str, Any]) -> R:
        return msgspec.convert(await self._service.done(p.AskGovernance(question, params)), kind)

    async def _change(self, change: p.GovernanceChange, kind: type[R], reason: str) -> R:
        return msgspec.convert(await self._changed(change, reason), kind)

    async def _changed(self, change: p.GovernanceChange, reason: str) -> dict[str, Any]:
        peer = self._acting.peer()
        assert peer is not None, "a method is called on somebody's behalf"
        return await self._service.done(p.ChangeGovernance(change, peer.by, peer.uid, reason))
