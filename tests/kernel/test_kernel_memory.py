"""Memory of a running kernel: agents plain and as coroutines, the operator's methods, restarts, capabilities."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from weftos import chain
from weftos.ecc.embedding.hashing import HashingProvider
from weftos.errors import CollectionNotFound
from weftos.rpc import ecc_types as e
from weftos.rpc.client import RpcClient

ROOT = Path(__file__).parents[2]
TEXTS = ["the pump failed at noon", "a cat sat on the mat"]


def teller(kernel, program="rememberer", **params):
    agent = kernel.spawn(program, **params)

    def tell(do, *args, **options):
        order = {"do": do, "args": list(args), "options": options}
        reply = kernel.call("agent.send", pid=agent.pid, message=order, timeout_secs=60, timeout=90).reply
        return reply.get("value", reply.get("error"))

    tell.pid = agent.pid
    return tell


def search(kernel, question, space, **params):
    provider = HashingProvider()
    vector = np.ascontiguousarray(provider.embed([question]), "<f4").tobytes()
    asked = e.EccSearchParams(space=space, vector=vector, identity=provider.identity, **params)
    with RpcClient(kernel.home.socket, timeout=30) as client:
        return client.call("ecc.search", asked)


@pytest.mark.parametrize("program", ["rememberer", "dreamer"])
def test_an_agent_remembers_and_reasons(kernel, program):
    tell = teller(kernel, program, name="thinker")
    ids = tell("memory.remember", TEXTS, metadata=[{"n": 1}, {"n": 2}])
    assert [one[0] for one in tell("memory.recall", "when did the pump fail", 1)] == [TEXTS[0]]
    assert tell("memory.recall", "cat", where={"n": 2})[0][2] == {"n": 2}
    assert tell("memory.ids") == ids
    assert tell("memory.fields", ["n"]) == [[[1], 1], [[2], 1]]
    assert tell("causal.link", "pump failed", "line stopped", "Causes", 0.9) is True
    assert [one["label"] for one in tell("causal.why", "line stopped")] == ["pump failed"]
    assert tell("causal.path", "pump failed", "line stopped")["found"] is True
    assert tell("memory.forget", ids[0]) == 1
    assert tell("causal.unlink", "pump failed") == 1
    assert tell("causal.why", "nobody") == "ecc.graph"
    assert tell("memory.search", [[1.0]], 1) == "ecc.identity"


def test_the_operator_sees_what_agents_remember(kernel):
    tell = teller(kernel, name="thinker")
    tell("memory.remember", TEXTS, space="shared/notes")
    tell("causal.link", "a", "b", space="shared/notes")
    kernel.call("ecc.tick")
    found = search(kernel, "when did the pump fail", "shared/notes", k=1).matches[0]
    assert (found.text, found.chain_seq > 0) == (TEXTS[0], True)
    (row,) = kernel.call("ecc.collections")
    assert (row.space, row.collection.live, row.collection.owner, row.nodes, row.edges) == (
        "shared/notes", 2, "thinker", 2, 1,
    )  # fmt: skip
    assert kernel.call("ecc.causal", space="shared/notes", node="b", direction="causes").nodes[1].label == "a"
    assert kernel.call("ecc.causal", space="shared/notes", question="find", text="A").total == 1
    shape = kernel.until(lambda: (one := kernel.call("ecc.coherence", space="shared/notes")).known and one, 90)
    assert (shape.component_count, shape.lambda_2) == (1, 2.0)
    services = {one.name: one.health for one in kernel.call("kernel.services")}
    assert services.items() >= {"ecc.hnsw": "healthy", "ecc.cognitive_tick": "healthy"}.items()
    with pytest.raises(CollectionNotFound):
        search(kernel, "x", "nowhere")
    assert kernel.call("ecc.drop", space="shared/notes").count == 2
    kinds = [one.kind for one in kernel.events() if one.kind.startswith("ecc.")]
    assert kinds[:3] == ["ecc.collection.create", "ecc.commit", "ecc.collection.drop"]


def test_memory_is_there_after_kills_of_service_and_kernel(kernel):
    tell = teller(kernel, name="thinker")
    ids = tell("memory.remember", TEXTS)
    kernel.call("kernel.restart-service", name="service")
    assert set(tell("memory.ids")) == set(ids)
    before = kernel.call("ecc.collections")[0].collection.content_root
    kernel.kill()
    kernel.start()
    tell = teller(kernel, name="thinker")
    assert set(tell("memory.ids")) == set(ids), "an agent of the same name has the same memory"
    assert kernel.call("ecc.collections")[0].collection.content_root == before
    assert chain.verify(str(kernel.home.chain)).valid


def test_what_is_revoked_is_refused_at_once(kernel):
    tell = teller(kernel, name="thinker")
    tell("memory.remember", TEXTS, space="shared/notes")
    kernel.call("capability.revoke", pid=tell.pid, rights=["memory=shared/*"], reason="a test")
    assert tell("memory.recall", "pump", space="shared/notes") == "gate.denied"
    assert tell("memory.remember", TEXTS) != "gate.denied"
    kernel.call("capability.grant", pid=tell.pid, rights=["memory=shared/*"], reason="a test")
    assert tell("memory.recall", "pump", 1, space="shared/notes")[0][0] == TEXTS[0]
    other = teller(kernel, name="other")
    assert other("memory.recall", "pump", space="agent/thinker") == "gate.denied"


def test_what_memory_needs_is_loaded_where_it_is_used():
    """Agents are forked from the kernel: what it loads, each of them has."""
    looked = (
        "import weftos.kernel.kernel, weftos.agent.main, sys; "
        "print([name for name in ('faiss', 'scipy', 'rustworkx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_names_only_tests_that_there_are():
    page = (ROOT / "docs" / "ecc.md").read_text()
    codes = [code.split() for code in re.findall(r"`([^`\n]+)`", page)]
    named = [words for words in codes if re.search(r"test_\w+\.py$", words[0])]
    assert len(named) > 15
    for path, *names in named:
        files = [*ROOT.glob(path), *ROOT.glob(f"tests/**/{Path(path).name}")]
        assert files, path
        for name in names:
            assert f"def test_{name}" in files[0].read_text(), (path, name)
