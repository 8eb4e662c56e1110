"""What this machine can do for the cognitive layer, measured: on scratch structures, never on those that are in use.

Each figure is of the thing itself. The index is a graph of faiss (HNSW) at the sizes that agents have, not a list that
is searched through; the spectrum is a spectrum. The first runs of each measurement are thrown away. The figures are
stored with the machine that they are of; a file from another one, or from before an update, is refused.

From them follows the interval of cognitive ticks: the smallest step of a scale at which the work of one impulse and one
write to the disk take no more than their share. Embedding is not in it: that depends on the provider. Intervals are
floating-point milliseconds; the scale begins at 10 µs.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from typing import Final

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.disk.clock import Clock, SystemClock
from weftos.disk.files import Files, replace_file
from weftos.ecc.calibration_probes import (
    IndexFigures,
    Timings,
    blake3_mb_s,
    ed25519_signs_s,
    impulse_timings,
    journal_timings,
    spectrum_us,
)
from weftos.errors import CalibrationInvalid

__all__ = [
    "TICK_BANDS_US",
    "CalibrationSettings",
    "EccCalibration",
    "Machine",
    "calibrate",
    "load_calibration",
    "save_calibration",
    "this_machine",
    "tick_interval_us",
]

#: The intervals that ticks may have, in microseconds.
TICK_BANDS_US: Final = (10, 50, 100, 250, 500, 1_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000)
_FORMAT: Final = 1
_US_PER_MS: Final = 1000.0
_NS_PER_S: Final = 1_000_000_000


class CalibrationSettings(msgspec.Struct, frozen=True):
    """What is measured.

    Attributes:
        folder: an existing folder on the disk that the stores will be on; what is made in it is removed again.
        sizes: vectors in the index, ascending; the largest decides.
        dimensions: numbers in a vector.
        runs: measured runs of each measurement.
        warm_up: runs before them that are thrown away.
        tick_budget_ratio: share of the interval that a tick may take, above 0 to 1.
        tick_interval_ms: least interval that is chosen; 0: as measured.
        spectral_nodes: nodes of the graph whose spectrum is computed.
        time_limit_s: seconds after which the index stops growing, and is measured at the size that it has.
        seed: of everything random but keys.
    """

    folder: str
    sizes: tuple[int, ...] = limits.CALIBRATION_SIZES
    dimensions: int = limits.CALIBRATION_DIMENSIONS
    runs: int = limits.CALIBRATION_RUNS
    warm_up: int = limits.CALIBRATION_WARM_UP
    tick_budget_ratio: float = limits.TICK_BUDGET_RATIO
    tick_interval_ms: float = 0.0
    spectral_nodes: int = limits.CALIBRATION_SPECTRAL_NODES
    time_limit_s: float = limits.CALIBRATION_TIME_S
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            CalibrationInvalid: a setting is out of its range.
        """
        if not self.sizes or min(self.sizes) < 1 or sorted(set(self.sizes)) != list(self.sizes):
            raise CalibrationInvalid(f"sizes are {self.sizes}; set one or more, each 1 or more, ascending")
        if self.sizes[-1] > limits.CALIBRATION_VECTORS:
            raise CalibrationInvalid(f"sizes are {self.sizes}; set at most {limits.CALIBRATION_VECTORS}")
        least = {"dimensions": 1, "runs": 1, "warm_up": 0, "spectral_nodes": 2, "time_limit_s": 0, "seed": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise CalibrationInvalid(f"{name} is {getattr(self, name)}; set it to {bound} or more")
        if not 0 < self.tick_budget_ratio <= 1:
            raise CalibrationInvalid(f"tick_budget_ratio is {self.tick_budget_ratio}; set it above 0, at most to 1")
        if not 0 <= self.tick_interval_ms <= limits.TICK_MAX_MS:
            raise CalibrationInvalid(f"tick_interval_ms is {self.tick_interval_ms}; set 0 to {limits.TICK_MAX_MS}")


class Machine(msgspec.Struct, frozen=True):
    """What figures hold for: processor, cores that this process may use, and versions."""

    cpu: str
    cores: int
    kernel: str
    python: str
    numpy: str
    faiss: str


class EccCalibration(msgspec.Struct, frozen=True):
    """What was measured.

    Attributes:
        compute_p50_us: the work of one impulse at the largest size: insert, search, edge, hash; the median.
        compute_p95_us: the same, the 95th percentile.
        tick_interval_ms: the interval of ticks that follows.
        headroom_ratio: share of that interval that one impulse and one write to the disk take; above the budget's
            share, the machine is too slow for the longest interval.
        hnsw_vector_count: vectors in the index at the largest size that was reached.
        causal_edge_count: edges of the graph whose spectrum was computed.
        spectral_capable: whether the spectrum fits the budget of the longest interval.
        calibrated_at: seconds since 1970 UTC.
        index: the figures of each size.
        blake3_mb_s: megabytes a second that are hashed.
        ed25519_signs_s: signatures a second.
        append: one record onto the disk (``fdatasync``).
        spectrum_us: one λ₂.
        spectral_nodes: nodes of that graph.
        dimensions: numbers in a vector.
        complete: whether the index reached all sizes within the time limit.
        cpu_share: part of the time of the index's measurement in which this process ran; well below 1, others had the
            processor, and the figures are those of a busy machine.
        duration_s: seconds that all of it took.
        machine: what the figures hold for.
    """

    compute_p50_us: float
    compute_p95_us: float
    tick_interval_ms: float
    headroom_ratio: float
    hnsw_vector_count: int
    causal_edge_count: int
    spectral_capable: bool
    calibrated_at: int
    index: tuple[IndexFigures, ...]
    blake3_mb_s: float
    ed25519_signs_s: float
    append: Timings
    spectrum_us: float
    spectral_nodes: int
    dimensions: int
    complete: bool
    cpu_share: float
    duration_s: float
    machine: Machine


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    digest: str
    calibration: EccCalibration


def this_machine() -> Machine:
    """Say what figures that are measured now hold for."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=version("numpy"),
        faiss=version("faiss-cpu"),
    )


def tick_interval_us(work_us: float, ratio: float, floor_ms: float = 0.0) -> float:
    """Choose the interval of ticks.

    Args:
        work_us: microseconds that a tick must have time for.
        ratio: share of the interval that it may take.
        floor_ms: least interval, in milliseconds.

    Returns:
        Microseconds: the first of ``TICK_BANDS_US`` that is long enough, or the last; not below the floor.
    """
    required = work_us / ratio
    band = next((band for band in TICK_BANDS_US if band >= required), TICK_BANDS_US[-1])
    return max(float(band), floor_ms * _US_PER_MS)


def calibrate(settings: CalibrationSettings, clock: Clock | None = None) -> EccCalibration:
    """Measure this machine.

    Args:
        settings: what is measured.
        clock: what it is measured with; None: the system's.

    Raises:
        CalibrationInvalid: nothing can be written in the folder.
    """
    clock = clock or SystemClock()
    begun = clock.mono_ns()
    try:
        folder = tempfile.mkdtemp(prefix="calibration-", dir=settings.folder)
    except OSError as error:
        raise CalibrationInvalid(f"{settings.folder}: {error.strerror}; name an existing folder to write in") from error
    counts = {"runs": settings.runs, "warm_up": settings.warm_up}
    try:
        append = journal_timings(clock, folder, **counts)
    except OSError as error:
        raise CalibrationInvalid(f"{folder}: {error.strerror}; name another folder") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    index_begun, cpu_begun = clock.mono_ns(), time.process_time_ns()
    index = impulse_timings(
        clock,
        sizes=settings.sizes,
        dimensions=settings.dimensions,
        seed=settings.seed,
        until_ns=index_begun + int(settings.time_limit_s * _NS_PER_S),
        **counts,
    )
    cpu_share = (time.process_time_ns() - cpu_begun) / max(1, clock.mono_ns() - index_begun)
    hashing, signing = blake3_mb_s(clock, settings.seed), ed25519_signs_s(clock)
    spectral_us, edges = spectrum_us(clock, settings.spectral_nodes, settings.seed)
    compute, reached = index[-1].compute, index[-1].vectors
    work_us = compute.p95_us + append.p95_us
    interval_us = tick_interval_us(work_us, settings.tick_budget_ratio, settings.tick_interval_ms)
    return EccCalibration(
        compute_p50_us=compute.p50_us,
        compute_p95_us=compute.p95_us,
        tick_interval_ms=interval_us / _US_PER_MS,
        headroom_ratio=work_us / interval_us,
        hnsw_vector_count=reached,
        causal_edge_count=edges,
        spectral_capable=spectral_us <= limits.TICK_MAX_MS * _US_PER_MS * settings.tick_budget_ratio,
        calibrated_at=clock.wall_ns() // _NS_PER_S,
        index=tuple(index),
        blake3_mb_s=hashing,
        ed25519_signs_s=signing,
        append=append,
        spectrum_us=spectral_us,
        spectral_nodes=settings.spectral_nodes,
        dimensions=settings.dimensions,
        complete=reached >= settings.sizes[-1],
        cpu_share=min(1.0, cpu_share),
        duration_s=(clock.mono_ns() - begun) / _NS_PER_S,
        machine=this_machine(),
    )


def save_calibration(fs: Files, path: str, calibration: EccCalibration) -> None:
    """Write a calibration to a file, in the place of one that is there.

    Raises:
        CalibrationInvalid: it cannot be written; what was there is still there, or already the new one.
    """
    content = msgspec.json.encode(_File(_FORMAT, _digest(calibration), calibration))
    try:
        replace_file(fs, path, msgspec.json.format(content, indent=2) + b"\n")
    except OSError as error:
        raise CalibrationInvalid(f"{path}: {error.strerror}; the calibration was not stored") from error


def load_calibration(path: str, *, of_machine: Machine | None = None) -> EccCalibration:
    """Read a calibration of this machine.

    Args:
        path: the file.
        of_machine: what it must hold for; None: this machine as it is.

    Raises:
        CalibrationInvalid: there is none, it was altered, or it is of another machine or other versions.
    """
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read(limits.CALIBRATION_FILE_BYTES), type=_File)
    except OSError as error:
        raise CalibrationInvalid(f"{path}: {error.strerror}; calibrate") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CalibrationInvalid(f"{path} is no calibration ({error}); calibrate again") from error
    calibration = found.calibration
    if found.format != _FORMAT or found.digest != _digest(calibration):
        raise CalibrationInvalid(f"{path} was altered, or is of another version; calibrate again")
    expected = of_machine or this_machine()
    if calibration.machine != expected:
        names = [name for name in Machine.__struct_fields__ if _differs(calibration.machine, expected, name)]
        raise CalibrationInvalid(f"{path} is of another machine ({', '.join(names)} differ); calibrate again")
    if not all(math.isfinite(value) and value > 0 for value in _figures(calibration)):
        raise CalibrationInvalid(f"{path} has a figure that no measurement gives; calibrate again")
    return calibration


def _figures(one: EccCalibration) -> tuple[float, ...]:
    return one.compute_p50_us, one.compute_p95_us, one.tick_interval_ms, one.headroom_ratio, one.spectrum_us


def _differs(one: Machine, other: Machine, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def _digest(calibration: EccCalibration) -> str:
    return blake3(msgspec.json.encode(calibration, order="sorted")).hexdigest()


def _cpu() -> str:
    """The name of the processor; the architecture where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    except OSError:
        pass  # no such file outside of Linux
    return platform.processor() or platform.machine()
