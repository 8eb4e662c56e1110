"""Keeps a folder and a memory space in step: lists the folder, hands out its files, links it, forgets what is gone.

What is in memory is asked of memory, once, at the start. Then come the files, read by the readers; then, if anything
differs from what was there, the part of the causal graph that the folder is; then what is gone is forgotten, and the
mark that the readers set is taken away. A run that ends before that is seen by the next, which makes it good.

It holds the outline of the whole folder until it is linked: some hundred bytes for each passage.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.agent.context import Context
from weftos.ecc.passages.folder import LeftOut, list_folder
from weftos.ecc.passages.model import Document
from weftos.errors import AgentExited, GraphNotFound, GraphRefused, InvalidRequest, WeftError
from weftos.service.memory import GraphContent

from .memory_files import FIELDS, KEPT, Asked, Known, Result, content_digest, document_of, known_files
from .memory_graph import LINKS, TYPES, Mark, difference, ends_of, is_of, wanted
from .pieces import PATIENCE_S, Pieces
from .siblings import Siblings

__all__ = ["main"]

#: A piece of work ends at this many files or bytes, whichever comes first: a reader takes some tenths of a second for
#: it, so that all end at about the same time.
_WORK_FILES: Final = 16
_WORK_BYTES: Final = 128 * 1024
#: Files that changed up to which only their part of the graph is asked for.
_FEW: Final = 64
#: Between two reports of progress, in seconds.
_REPORT_S: Final = 0.1
#: Files named in the answer, of each kind.
_NAMES: Final = 1000


class _Keeper:
    """One run."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._root, self._space, self._run, exclude = ctx.args
        self._exclude = msgspec.json.decode(exclude, type=list[str])
        self._name = Path(self._root).name
        self._mark = Mark(self._name, self._root, self._run)
        self._known: dict[str, Known] = {}
        self._listed: dict[str, int] = {}
        self._left_out: list[LeftOut] = []
        self._results: dict[str, Result] = {}
        self._outlines: dict[str, Document] = {}
        self._not_outlined: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._linked: dict[str, int] = {}
        # Whether something differs from what was there, and whether an earlier run ended in the middle.
        self._changed = self._left = False
        self._phase = "reading"
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()
        self._bytes = 0
        self._first_seq = 0
        self.pieces = Pieces(ctx)

    # --- the beginning ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask what is in memory, list the folder, and make pieces of it.

        Raises:
            WeftError: the folder cannot be listed, or the space cannot take it.
        """
        memory = self._ctx.memory
        for (root,), _ in memory.fields(("root",), space=self._space):
            if root != self._root and isinstance(root, str) and Path(root).name == self._name:
                raise InvalidRequest(
                    f"the space {self._space!r} holds {root} as {self._name}/ already, and its files could not be told "
                    f"from those of {self._root}; name another space with --space"
                )
        # Refuses a space with vectors of another provider before anything is read.
        memory.create(self._space, memory.provider.identity.dimension, texts=True)
        self._known = known_files(memory.fields(FIELDS, {"root": self._root}, space=self._space))
        self._changed = self._left = self._was_left()
        self._first_seq = int(self._ctx.service.head()["head_seq"]) + 1
        work: list[Any] = []
        size = 0
        for found in list_folder(Path(self._root), self._exclude):
            if not _is_text(found.file):
                self._counts["name"] += 1
            elif isinstance(found, LeftOut):
                self._left_out.append(found)
            else:
                self._listed[found.file] = found.size
                known = self._known.get(self._shown(found.file))
                work.append(Asked(found.file, known.source if known else "", known is not None))
                size += found.size
                if len(work) >= _WORK_FILES or size >= _WORK_BYTES:
                    self._hand_out(work)
                    work, size = [], 0
        self._hand_out(work)

    def _hand_out(self, work: list[Any]) -> None:
        if work:
            self.pieces.add(["read", msgspec.to_builtins(work)])

    def _was_left(self) -> bool:
        """Whether an earlier run ended in the middle, so that the graph may not be in step."""
        try:
            self._ctx.causal.around(self._mark.node, 1, limit=1, space=self._space)
        except GraphNotFound:
            return bool(self._known)
        except GraphRefused:
            return False
        return True

    def _shown(self, file: str) -> str:
        return f"{self._name}/{file}" if file else self._name

    # --- the middle ---------------------------------------------------------------------------------------------------

    def take(self, reader: int, payload: dict[str, Any]) -> None:
        """A reader began a life, or is done with a piece."""
        if not self.pieces.take(reader, payload):
            return
        for result in msgspec.msgpack.decode(payload["results"], type=list[Result]):
            if result.outline:
                self._outlines[result.file] = document_of(result.outline)
            elif self._phase == "outlining":
                self._not_outlined.add(result.file)
            if self._phase == "reading":
                self._results[result.file] = msgspec.structs.replace(result, outline=b"")
                self._bytes += self._listed.get(result.file, 0)
                self._changed |= result.status == "read" or result.removed > 0

    def turn(self) -> dict[str, Any] | None:
        """Go on when all pieces are done; returns the summary at the end."""
        if self.pieces.left:
            return None
        if self._phase == "reading":
            self._changed |= bool(self._gone())
            if self._changed and self._ask_outlines():
                self._enter("outlining")
                return None
        if self._changed:
            self._enter("linking")
            self._link()
            self._forget()
        return self._end()

    def _enter(self, phase: str) -> None:
        now = time.monotonic()
        self._seconds[self._phase] = round(now - self._since, 3)
        self._phase, self._since = phase, now

    def _ask_outlines(self) -> bool:
        """Have the files cut that did not change, for the links of all; says whether there are any."""
        files = [
            file
            for file, result in self._results.items()
            if result.status == "unchanged" and file not in self._outlines
        ]
        for begin in range(0, len(files), _WORK_FILES):
            self.pieces.add(["outline", files[begin : begin + _WORK_FILES]])
        return bool(files)

    def _kept(self) -> set[str]:
        """Paths, as they are shown, of what could not be read: what memory holds of them stays."""
        kept = {self._shown(one.file) for one in self._left_out if one.why in KEPT}
        kept |= {self._shown(file) for file in self._not_outlined}
        results = self._results.values()
        kept |= {self._shown(one.file) for one in results if one.status == "left out" and one.reason in KEPT}
        return kept | {self._shown(one.file) for one in results if one.status == "failed"}

    def _gone(self) -> list[str]:
        """Paths, as they are shown, of which memory holds something and should not."""
        there = {self._shown(one.file) for one in self._results.values() if one.status in ("read", "unchanged")}
        kept = self._kept()
        return [file for file in self._known if file not in there and not _is_below(file, kept)]

    def _link(self) -> None:
        """Bring the graph into step with the outlines."""
        causal, space = self._ctx.causal, self._space
        # Also where no reader changed anything, but something is gone.
        causal.link_many([self._mark.edge], space=space)
        should = wanted(self._outlines[file] for file in sorted(self._outlines))
        only = self._touched()
        there = causal.content(f"{self._name}/", types=TYPES, space=space) if only is None else self._there(only)
        found = difference(there, should, self._mark, self._kept(), only)
        causal.unlink_many([(node, None, None) for node in found.nodes_gone], space=space)
        causal.unlink_many(found.edges_gone, space=space)
        self._linked = {
            "nodes": len(ends_of(should.edges)),
            "edges": len(should.edges),
            "nodes_removed": len(found.nodes_gone),
            "edges_removed": len(found.edges_gone),
            "edges_added": causal.link_many(found.edges_new, space=space),
        }

    def _touched(self) -> set[str] | None:
        """Paths, as they are shown, of what changed, if the rest of the graph is in step; ``None`` for all."""
        if self._left or not self._known:
            return None
        touched = {self._shown(file) for file, result in self._results.items() if result.status == "read"}
        touched |= set(self._gone())
        # Longer paths do not fit a label, so what is of them could not be asked for.
        few = len(touched) <= _FEW and all(len(file.encode()) < limits.CAUSAL_LABEL_BYTES // 2 for file in touched)
        return touched if few else None

    def _there(self, files: set[str]) -> GraphContent:
        """What the graph holds of some files, and all imports and references of the folder."""
        causal, space = self._ctx.causal, self._space
        labels: dict[bytes, str] = {}
        edges = causal.edges(f"{self._name}/", types=LINKS, space=space)
        for file in sorted(files):
            found = causal.content(file, types=TYPES, space=space)
            own = {node: label for node, label in found.labels.items() if is_of(label, {file})}
            labels |= own
            edges |= {edge for edge in found.edges if edge[0] in own}
        return GraphContent(labels, edges)

    def _forget(self) -> None:
        """Forget the passages of what is gone, and take the mark away."""
        memory, space = self._ctx.memory, self._space
        for file in self._gone():
            ids = memory.ids({"root": self._root, "file": file}, space=space)
            self._counts["removed_files"] += 1
            self._counts["removed"] += memory.forget(ids, space=space) if ids else 0
        node, by = self._mark.edge[:2]
        there = self._ctx.causal.edges(node[1], types=("TriggeredBy",), space=space)
        marks = {end for source, target, _ in there if source == node[0] for end in (source, target)} | {by[0]}
        # The mark itself goes last: until then the next run sees it.
        self._ctx.causal.unlink_many([(one, None, None) for one in sorted(marks - {node[0]})], space=space)
        self._ctx.causal.unlink_many([(node[0], None, None)], space=space)

    # --- the end ------------------------------------------------------------------------------------------------------

    def progress(self) -> dict[str, Any]:
        """How far it is."""
        return {
            "phase": self._phase,
            "files": len(self._results),
            "bytes": self._bytes,
            "total": len(self._listed),
            "total_bytes": sum(self._listed.values()),
        }

    def _end(self) -> dict[str, Any]:
        """Put on the log what was done, and return it."""
        results = self._results.values()
        of = Counter(result.status for result in results)
        why: Counter[str] = Counter(one.why for one in self._left_out)
        why.update(result.reason for result in results if result.status == "left out")
        if self._counts["name"]:
            why["name"] = self._counts["name"]
        content = [(one.file, one.source) for one in results if one.status in ("read", "unchanged")]
        counts = {
            "read": of["read"],
            "unchanged": of["unchanged"],
            "empty": of["empty"],
            "failed": of["failed"],
            "removed_files": self._counts["removed_files"],
            "left_out": dict(why),
            "bytes": sum(result.size for result in results if result.status == "read"),
            "passages": sum(result.passages for result in results if result.status == "read"),
            "passages_removed": self._counts["removed"] + sum(result.removed for result in results),
            **self._linked,
        }
        payload = {
            "run": self._run,
            "root": self._root,
            "space": self._space,
            "exclude": self._exclude,
            "provider": self._ctx.memory.provider.identity.name,
            "content": content_digest(content),
            **counts,
        }
        ack = self._ctx.service.append("app.memory.run", payload, key=f"memory-{self._run}", durable=True)
        self._enter("done")
        failed = sorted((one.file, one.reason) for one in results if one.status == "failed")
        # Links, pipes and what was excluded are meant to be left out; what cannot be read is worth a name.
        named: list[tuple[str, str]] = [(one.file, one.why) for one in self._left_out if one.why in KEPT]
        named += [(one.file, one.reason) for one in results if one.status == "left out" and one.reason in KEPT]
        return payload | {
            "problems": [list(row) for row in (failed + sorted(named))[:_NAMES]],
            "phases": self._seconds,
            "first_seq": self._first_seq,
            "last_seq": ack.seq,
        }


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_below(file: str, names: set[str]) -> bool:
    """Whether a path is one of several, or lies below one of them."""
    while file:
        if file in names:
            return True
        file = file.rpartition("/")[0]
    return False


def _failing(ctx: Context, do: Callable[[], Any]) -> bool:
    """Do a step; one that is refused is told to the coordinator with its cause. Returns whether it was."""
    try:
        do()
    except WeftError as error:
        ctx.send(ctx.parent, {"failed": str(error), "code": error.code}, timeout=PATIENCE_S)
        return True
    return False


def main(ctx: Context) -> None:
    """Arguments: root, space, name of the run, patterns to leave out (JSON)."""
    keeper, siblings = _Keeper(ctx), Siblings(ctx)
    summary: dict[str, Any] | None = None

    def turn() -> None:
        nonlocal summary
        summary = keeper.turn()

    if _failing(ctx, keeper.begin):
        return
    reported = 0.0
    while not _failing(ctx, turn):
        if summary is not None:
            ctx.send(ctx.parent, {"progress": keeper.progress(), "done": summary}, timeout=PATIENCE_S)
            return
        if time.monotonic() - reported >= _REPORT_S:
            reported = time.monotonic()
            ctx.send(ctx.parent, {"progress": keeper.progress()}, timeout=PATIENCE_S)
        message = ctx.recv()
        if message is None:
            raise AgentExited("stopped before the folder was read")
        if isinstance(message.payload, dict) and message.sender in siblings:
            keeper.take(message.sender, message.payload)
