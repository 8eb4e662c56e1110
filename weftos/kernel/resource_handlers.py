"""The control socket's methods about the resource tree: asking, rules of access, certificates."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from weftos.errors import InvalidRequest
from weftos.kernel.service_host import ServiceHost
from weftos.rpc import access_types as x
from weftos.rpc import tree_types as r
from weftos.rpc import types as t
from weftos.service import tree_protocol as p

__all__ = ["ResourceHandlers"]


class ResourceHandlers:
    """All methods below ``resource.``.

    Args:
        service: which keeps the tree.
        by: tells who asks.
    """

    def __init__(self, service: ServiceHost, by: Callable[[], str]) -> None:
        self._service = service
        self._by = by

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {
            "resource.tree": self.tree,
            "resource.inspect": self.inspect,
            "resource.stats": self.stats,
            "resource.score": self.score,
            "resource.rank": self.rank,
            "resource.acl": self.acl,
            "resource.decide": self.decide,
            "resource.set-rule": self.set_rule,
            "resource.remove-rule": self.remove_rule,
            "resource.delegate": self.delegate,
            "resource.delegations": self.delegations,
            "resource.authorize": self.authorize,
            "resource.revoke": self.revoke,
            "resource.restore": self.restore,
        }

    # --- asking -------------------------------------------------------------------------------------------------------

    async def tree(self, params: r.ResourcePathParams) -> r.ResourceTree:
        values = await self._service.done(p.AskTree("tree", params.path, {"limit": params.limit}))
        return msgspec.convert(values, r.ResourceTree)

    async def inspect(self, params: r.ResourcePathParams) -> r.ResourceDetail:
        return msgspec.convert(await self._service.done(p.AskTree("inspect", params.path)), r.ResourceDetail)

    async def stats(self, _params: t.NoParams) -> r.ResourceStats:
        return msgspec.convert(await self._service.done(p.AskTree("stats")), r.ResourceStats)

    async def score(self, params: r.ResourcePathParams) -> r.ResourceScore:
        values = await self._service.done(p.AskTree("score", params.path, {"limit": params.limit}))
        return msgspec.convert(values, r.ResourceScore)

    async def rank(self, params: r.ResourceRankParams) -> r.ResourceRank:
        values = await self._service.done(p.AskTree("rank", "/", {"weights": params.weights, "limit": params.limit}))
        return msgspec.convert(values, r.ResourceRank)

    # --- rules of access ----------------------------------------------------------------------------------------------

    async def acl(self, params: x.AclParams) -> x.AclView:
        return msgspec.convert(await self._service.done(p.AskTree("acl", params.path)), x.AclView)

    async def decide(self, params: x.AclDecisionParams) -> x.AclDecision:
        question = {"principal": params.principal, "role": params.role, "action": params.action}
        return msgspec.convert(await self._service.done(p.AskTree("decide", params.path, question)), x.AclDecision)

    async def set_rule(self, params: x.AclSetParams) -> x.TreeChanged:
        rule = p.SetRule(params.path, params.policy_id, params.effect, params.principal, params.role, params.action)
        return await self._changed(rule, params.reason)

    async def remove_rule(self, params: x.AclRemoveParams) -> x.TreeChanged:
        return await self._changed(p.RemoveRule(params.path, params.policy_id), params.reason)

    # --- certificates -------------------------------------------------------------------------------------------------

    async def delegate(self, params: x.DelegateParams) -> x.DelegateResult:
        wanted = p.IssueCertificate(params.subject, params.prefix, params.actions, params.valid_secs, params.max_depth)
        values = await self._service.done(p.ChangeTree(wanted, self._by(), params.reason))
        return x.DelegateResult(**values | {"certificate": base64.b64encode(values["certificate"]).decode()})

    async def delegations(self, _params: t.NoParams) -> x.CertificateList:
        return msgspec.convert(await self._service.done(p.AskTree("certificates")), x.CertificateList)

    async def authorize(self, params: x.AuthorizeParams) -> x.GrantView:
        try:
            chain = [base64.b64decode(one, validate=True) for one in params.certificates]
        except binascii.Error as error:
            raise InvalidRequest(f"a certificate is given in base64: {error}") from error
        question = {"certificates": chain, "subject": params.subject, "action": params.action}
        return msgspec.convert(await self._service.done(p.AskTree("authorize", params.path, question)), x.GrantView)

    async def revoke(self, params: x.CertificateParams) -> x.TreeChanged:
        return await self._changed(p.RevokeCertificate(bytes.fromhex(params.id)), params.reason)

    async def restore(self, params: x.CertificateParams) -> x.TreeChanged:
        return await self._changed(p.RestoreCertificate(bytes.fromhex(params.id)), params.reason)

    async def _changed(self, change: p.TreeChange, reason: str) -> x.TreeChanged:
        return x.TreeChanged(**await self._service.done(p.ChangeTree(change, self._by(), reason)))
