"""`weaver run memory` from end to end, with real agents and real kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from weftos_workers.memory_graph import TYPES

from weftos import chain
from weftos.cli.memory_job import MemoryJob
from weftos.cli.recalling import recall_from
from weftos.disk.files import RealFiles
from weftos.ecc.causal.store import GraphStore
from weftos.errors import CollectionExists, InvalidRequest, ServiceError
from weftos.home import Home
from weftos.kernel.daemon import start_daemon
from weftos.rpc.client import RpcClient

WEAVER = [sys.executable, "-m", "weftos.cli.main"]
TEXTS = {
    "a.md": "# Pumps\nThe pump failed at noon.\n\nSee [valves](sub/valves.md#closing) for more.\n",
    "sub/valves.md": "# Valves\n## Closing\nA valve is closed by hand.\n",
    "code.py": 'import helper\n\n\ndef run():\n    """Starts the turbine."""\n    return helper.go()\n',
    "helper.py": "def go():\n    return 1\n",
    "notes.txt": "Nothing of importance.\n",
}


def fill(root, texts=TEXTS):
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def kernel(weftos_home):
    home = Home(weftos_home)
    start_daemon(home)
    yield home
    subprocess.run([*WEAVER, "kernel", "stop"], capture_output=True, timeout=60)


def run(root, space="docs", exclude=(), readers=1):
    return MemoryJob(root, space=space, readers=readers, exclude=list(exclude), profile="standard").run(
        show_progress=False
    )


def best(question, space="docs"):
    return recall_from(space, question, 1).matches[0]


def entries(client, space):
    """All that is remembered in a space: fields and texts by id."""
    found, after, more = {}, 0, True
    while more:
        page = client.call("ecc.entries", {"space": space, "after": after, "limit": 500, "vectors": False})
        found |= {one.id: (dict(one.metadata), one.text) for one in page.entries}
        after, more = page.after, page.more
    return found


def graphs(home, *spaces):
    """The graphs of spaces, read from their files, as labels and edges between labels."""
    subprocess.run([*WEAVER, "kernel", "stop"], check=True, capture_output=True, timeout=60)
    found = []
    for space in spaces:
        store = GraphStore(RealFiles(), str(home.ecc / "causal" / space))
        label = {node.id: node.label for node in store.graph.all_nodes()}
        edges = {(label[e.source], label[e.target], e.type.value) for n in label for e in store.graph.edges(n)}
        assert len(set(label.values())) == len(label)
        found.append((set(label.values()), edges))
        store.close()
    return found


def test_a_folder_is_read_recalled_and_kept_in_step(kernel, tmp_path):
    root = fill(tmp_path / "data")
    (root / "picture").write_bytes(b"\x89PNG\0\0")
    (root / "latin").write_bytes("Löwe".encode("latin-1"))
    (root / "secret").write_text("unreadable")
    (root / "secret").chmod(0)
    (root / "empty").touch()
    (root / "link").symlink_to("a.md")
    os.mkfifo(root / "pipe")
    with open(os.path.join(os.fsencode(root), b"odd\xff"), "wb") as file:
        file.write(b"odd")
    first = run(root)
    left_out = {"binary": 1, "encoding": 1, "unreadable": 1, "link": 1, "special": 1, "name": 1}
    assert (first["read"], first["empty"], first["failed"], first["left_out"]) == (5, 1, 0, left_out)
    assert first["problems"] == [["secret", "unreadable"]]
    found = best("who closes the valve?")
    assert (found.metadata["file"], found.metadata["heading"]) == ("data/sub/valves.md", "Valves > Closing")
    assert (found.metadata["first"], found.metadata["last"], found.chain_seq > 0) == (2, 3, True)
    assert found.text == "## Closing\nA valve is closed by hand."
    assert best("turbine").metadata["file"] == "data/code.py"

    second = run(root)
    assert (second["read"], second["unchanged"], second["passages"], second["passages_removed"]) == (0, 5, 0, 0)
    assert (second["content"], "nodes" in second) == (first["content"], False)

    (root / "a.md").write_text("# Pumps\nThe pump was replaced in spring.\n\nIn [code](code.py).\n")
    (root / "notes.txt").unlink()
    (root / "helper.py").rename(root / "helping.py")
    third = run(root)
    assert (third["read"], third["unchanged"], third["removed_files"]) == (2, 2, 2)
    assert "spring" in best("pump").text
    with RpcClient(kernel.socket, timeout=20) as client:
        files = {fields["file"] for fields, _ in entries(client, "docs").values()}
        assert files == {"data/a.md", "data/sub/valves.md", "data/code.py", "data/helping.py"}
        # What a start without anything would have given.
        run(root, "fresh")
        assert entries(client, "docs") == entries(client, "fresh")
    kept, fresh = graphs(kernel, "docs", "fresh")
    assert kept == fresh
    labels, edges = kept
    assert ("data/a.md", "data/code.py", "References") in edges
    assert "data/notes.txt" not in labels
    assert {kind for *_, kind in edges} <= set(TYPES)
    runs = [r.payload for r in chain.read(str(kernel.chain)) if r.kind == "app.memory.run"]
    assert [one["read"] for one in runs] == [5, 0, 2, 4]
    assert runs[2]["content"] == runs[3]["content"]


def test_links_of_unchanged_files_follow_what_appears_and_goes(kernel, tmp_path):
    root = fill(tmp_path / "data", {"a.md": "see [b](b.md)\n", "c.md": "# C\nwords\n"})
    run(root)
    fill(root, {"b.md": "# B\nwords\n"})
    assert run(root)["unchanged"] == 2
    with RpcClient(kernel.socket, timeout=20) as client:
        asked = {"space": "docs", "node": "data/a.md", "depth": 1, "types": ["References"]}
        assert {one.label for one in client.call("ecc.causal", asked).nodes} == {"data/a.md", "data/b.md"}
        (root / "b.md").unlink()
        run(root)
        assert {one.label for one in client.call("ecc.causal", asked).nodes} == {"data/a.md"}
        # Left out now means forgotten; what cannot be read stays.
        (root / "c.md").chmod(0)
        assert run(root)["passages_removed"] == 0
        assert best("words").metadata["file"] == "data/c.md"
        (root / "c.md").chmod(0o644)
        assert run(root, exclude=["c.*"])["passages_removed"] == 1


def test_what_a_space_or_a_file_cannot_take_is_said(kernel, tmp_path):
    one, other = fill(tmp_path / "one" / "data"), fill(tmp_path / "other" / "data")
    # A line that is read, and does not fit a request in UTF-8.
    (one / "wide.txt").write_text("界" * 30_000 + "\n")
    summary = run(one)
    assert (summary["read"], summary["failed"], summary["problems"][0][0]) == (5, 1, "wide.txt")
    with pytest.raises(InvalidRequest, match="--space"):
        run(other)
    with RpcClient(kernel.socket, timeout=20) as client:
        entry = {"id": "x", "vector": b"\0\0\x80?" * 2, "metadata": {}}
        client.call("ecc.put", {"space": "other", "dimension": 2, "entries": [entry]})
    with pytest.raises(CollectionExists):
        run(other, "other")
    # Below another name it is another folder.
    assert run(tmp_path / "other")["read"] == 5
    assert run(one)["unchanged"] == 5


class Killer:
    """Kills the agent of a name whenever it is seen at work, a number of times."""

    def __init__(self, home, name, times):
        self.home, self.name, self.left = home, name, times
        self.over = threading.Event()
        self.killed = []
        self.thread = threading.Thread(target=self._kill)

    def _kill(self):
        with RpcClient(self.home.socket, timeout=20) as client:
            while self.left and not self.over.is_set():
                # Something is in memory, and not all of it.
                if any(one.collection and one.collection.live for one in client.call("ecc.collections")):
                    for row in client.call("agent.list"):
                        self._kill_one(row)

    def _kill_one(self, row):
        if self.name in row.name and row.os_pid and row.state == "running" and row.os_pid not in self.killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(row.os_pid, signal.SIGKILL)
                self.killed.append(row.os_pid)
                self.left -= 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def many(root):
    return fill(root, {f"f{n}.md": f"# File {n}\n" + f"words of {n} [next](f{n + 1}.md)\n\n" * 60 for n in range(120)})


@pytest.mark.parametrize("victim", ["memory-reader", pytest.param("memory-keeper", marks=pytest.mark.slow)])
def test_a_killed_agent_leaves_nothing_wrong(kernel, tmp_path, victim):
    """A reader is restarted and does its piece again; without its keeper the job fails, and the next makes it good."""
    root = many(tmp_path / "data")
    with Killer(kernel, victim, 2 if victim == "memory-reader" else 1) as killer:
        if victim == "memory-reader":
            summary = run(root, readers=2)
            assert sum(agent["restarts"] for agent in summary["agents"]) == len(killer.killed) >= 1
            assert (summary["read"], summary["failed"]) == (120, 0)
        else:
            with pytest.raises(ServiceError, match="keeper"):
                run(root)
            assert killer.killed
            (root / "f3.md").unlink()
    if victim == "memory-keeper":
        run(root)
    run(root, "fresh")
    with RpcClient(kernel.socket, timeout=20) as client:
        assert entries(client, "docs") == entries(client, "fresh")
    kept, fresh = graphs(kernel, "docs", "fresh")
    assert kept == fresh


def test_the_docs_of_this_project_on_the_command_line(weftos_home):
    """On a kernel that is started for it, and ended again."""
    docs = Path(__file__).parents[2] / "docs"
    done = subprocess.run([*WEAVER, "run", "memory", str(docs), "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["failed"] == 0
    assert summary["read"] == len(list(docs.rglob("*.md")))
    assert summary["holds"]["entries"] == summary["passages"] > 300
    kinds = [r.kind for r in chain.read(str(Home(weftos_home).chain)) if r.seq >= summary["first_seq"]]
    assert "app.memory.run" in kinds
    none = subprocess.run([*WEAVER, "run", "memory", "/no/such"], capture_output=True, text=True, timeout=60)
    assert (none.returncode, "/no/such" in none.stderr) == (2, True)
