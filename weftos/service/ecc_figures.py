"""Figures about the cognitive layer that take seconds: how a graph hangs together, and what this machine can do.

Why it is as it is: whoever asks gets what is known at once, with the change that it holds for, and what is out of date
is computed anew beside the loop. So asking often costs nothing, and nobody waits.

Guaranteed: at most one computation of each kind is under way. A calibration never touches what is in use.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from weftos.disk.files import Files
from weftos.ecc.causal.graph import CausalGraph
from weftos.errors import CalibrationInvalid, WeftError
from weftos.service.ecc_beside import Beside
from weftos.service.ecc_builder import GraphOrder, GraphShape
from weftos.service.side_work import Job

__all__ = ["Figures"]

log = logging.getLogger(__name__)


class Figures:
    """See the head of this file. All methods are the loop's.

    Args:
        beside: computes.
        fs: the calls on files.
        folder: of memory.
        calibrated: called with a calibration, and whether it is a new one.
    """

    def __init__(self, beside: Beside, fs: Files, folder: str, calibrated: Callable[[Any, bool], None]) -> None:
        self._beside = beside
        self._fs = fs
        self._folder = folder
        self._calibrated = calibrated
        self._shapes: dict[str, tuple[int, float, GraphShape]] = {}
        self._computing: set[str] = set()
        self._problems: dict[str, str] = {}
        self.calibration: Any = None

    # --- graphs -------------------------------------------------------------------------------------------------------

    def coherence(self, space: str, graph: CausalGraph, op: int) -> dict[str, Any]:
        """Return how a graph hangs together, as far as it is known, as plain values.

        Args:
            space: whose graph.
            graph: the graph.
            op: number of its last change.
        """
        known = self._shapes.get(space)
        if (known is None or known[0] != op) and space not in self._computing and not self._beside.closing:
            self._computing.add(space)
            self._beside.begin(self._shape(space, graph, op), lambda _done, error: self._shaped(space, error))
        told: dict[str, Any] = {
            "known": known is not None,
            "of_change": known[0] if known else 0,
            "last_change": op,
            "computed_at": known[1] if known else 0.0,
            "computing": space in self._computing,
            "problem": self._problems.get(space, ""),
        }
        return told | (msgspec.to_builtins(known[2]) if known is not None else {})

    def _shape(self, space: str, graph: CausalGraph, op: int) -> Job:
        columns, live = graph.columns, graph.columns.live()
        numbers = memoryview(bytearray(b"".join(one.to_bytes(4, "little") for one in graph.nodes())))
        order = GraphOrder(
            bytes(numbers),
            columns.edge("source")[live].astype("<u4").tobytes(),
            columns.edge("target")[live].astype("<u4").tobytes(),
            columns.edge("kind")[live].tobytes(),
            columns.edge("weight")[live].astype("<f4").tobytes(),
        )
        shape = yield lambda: self._beside.run("shape", order, GraphShape)
        self._shapes[space] = (op, time.time(), shape)

    def _shaped(self, space: str, error: WeftError | None) -> None:
        self._computing.discard(space)
        self._problems.pop(space, None)
        if error is not None:
            self._problems[space] = str(error)

    # --- the machine --------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> str:
        return os.path.join(self._folder, "calibration.json")

    def load(self) -> None:
        """Take up the calibration of an earlier time, if it is of this machine."""
        from weftos.ecc.calibration import load_calibration

        if not os.path.exists(self._path):
            return
        try:
            self.calibration = load_calibration(self._path)
        except CalibrationInvalid as error:
            log.info("the calibration is not used: %s", error)
            return
        self._calibrated(self.calibration, False)

    def calibrate(self) -> dict[str, Any]:
        """Begin a calibration unless one is under way, and return what ``machine`` does."""
        if "*" not in self._computing and not self._beside.closing:
            self._computing.add("*")
            self._problems.pop("*", None)
            self._beside.begin(self._calibration(), lambda _done, error: self._shaped("*", error))
        return self.machine()

    def machine(self) -> dict[str, Any]:
        """Return the newest calibration and whether one is under way, as plain values."""
        figures = msgspec.to_builtins(self.calibration) if self.calibration is not None else None
        return {"calibration": figures, "computing": "*" in self._computing, "problem": self._problems.get("*", "")}

    def _calibration(self) -> Job:
        from weftos.ecc.calibration import EccCalibration, save_calibration

        found = yield lambda: self._beside.run("calibrate", self._folder, EccCalibration)
        save_calibration(self._fs, self._path, found)
        self.calibration = found
        self._calibrated(found, True)
