"""Calibration: real structures at the sizes asked for, nothing but scratch, and a file that is checked."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import msgspec
import numpy as np
import pytest
from dying_files import DyingFiles
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.disk.files import RealFiles
from weftos.ecc.calibration import (
    TICK_BANDS_US,
    CalibrationSettings,
    EccCalibration,
    Machine,
    calibrate,
    load_calibration,
    save_calibration,
    this_machine,
    tick_interval_us,
)
from weftos.ecc.calibration_probes import Timings, scratch_vectors
from weftos.errors import CalibrationInvalid

SMALL = {"sizes": (50, 120), "dimensions": 24, "runs": 8, "warm_up": 2, "spectral_nodes": 60}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[EccCalibration, Path]:
    folder = tmp_path_factory.mktemp("calibration")
    (folder / "state").write_bytes(b"live")
    return calibrate(CalibrationSettings(str(folder), **SMALL)), folder


def test_every_figure_is_measured(made: tuple[EccCalibration, Path]) -> None:
    found, _ = made
    # The runs at a size, ten of them, enter vectors too; the next size is reached from there.
    assert [one.vectors for one in found.index] == [50, 120]
    assert found.complete
    assert found.hnsw_vector_count == 120
    assert found.causal_edge_count >= 60
    for one in found.index:
        assert 0 < one.insert.p50_us <= one.insert.p95_us
        assert 0 < one.search.p50_us <= one.search.p95_us
        assert one.compute.p50_us > max(one.insert.p50_us, one.search.p50_us)
    assert found.compute_p95_us == found.index[-1].compute.p95_us
    assert min(found.blake3_mb_s, found.ed25519_signs_s, found.append.p50_us, found.spectrum_us) > 0
    assert found.tick_interval_ms * 1000 in TICK_BANDS_US
    work = found.compute_p95_us + found.append.p95_us
    assert found.headroom_ratio == pytest.approx(work / found.tick_interval_ms / 1000)
    assert found.machine == this_machine()
    assert 0 < found.cpu_share <= 1


def test_nothing_is_left_and_nothing_is_touched(made: tuple[EccCalibration, Path]) -> None:
    _, folder = made
    assert [path.name for path in folder.iterdir()] == ["state"]
    assert (folder / "state").read_bytes() == b"live"


def test_the_index_that_is_measured_is_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Watched(faiss.IndexHNSWFlat):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.append(self)

    monkeypatch.setattr(faiss, "IndexHNSWFlat", Watched)
    threads = faiss.omp_get_max_threads()
    calibrate(CalibrationSettings(str(tmp_path), **SMALL))
    (index,) = seen
    assert index.ntotal == 130
    assert faiss.vector_to_array(index.hnsw.neighbors).max() > 0, "nodes have neighbours"
    assert faiss.omp_get_max_threads() == threads


def test_when_the_time_is_over_the_size_that_was_reached_is_measured(tmp_path: Path) -> None:
    found = calibrate(CalibrationSettings(str(tmp_path), **(SMALL | {"sizes": (700, 2_000)}), time_limit_s=0.0))
    assert not found.complete
    assert [one.vectors for one in found.index] == [250]
    assert found.hnsw_vector_count == 250


def test_scratch_vectors_are_seeded_and_lean_to_no_side() -> None:
    vectors = scratch_vectors(4_000, 64, seed=3)
    assert np.array_equal(vectors, scratch_vectors(4_000, 64, seed=3))
    assert not np.array_equal(vectors, scratch_vectors(4_000, 64, seed=4))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    # A mean of unit vectors that lean to one side has a length near 1, of these one near 1/sqrt(4000).
    assert np.linalg.norm(vectors.mean(axis=0)) < 0.05
    assert abs(float((vectors[:2000] * vectors[2000:]).sum(axis=1).mean())) < 0.02


def test_percentiles_are_the_nearest_rank() -> None:
    assert Timings.of([1_000 * value for value in range(100, 0, -1)]) == Timings(51.0, 96.0)
    assert Timings.of([5_000]) == Timings(5.0, 5.0)


@given(st.floats(0.01, 2_000_000), st.floats(0.01, 1.0))
def test_the_interval_is_the_smallest_step_that_is_long_enough(work: float, ratio: float) -> None:
    found = tick_interval_us(work, ratio)
    assert found in TICK_BANDS_US
    place = TICK_BANDS_US.index(int(found))
    assert found >= work / ratio or place == len(TICK_BANDS_US) - 1
    assert place == 0 or TICK_BANDS_US[place - 1] < work / ratio


def test_intervals_below_a_millisecond_stay_what_they_are() -> None:
    assert [tick_interval_us(work, 0.3) for work in (3, 3.1, 75, 150, 150.1, 300, 301)] == [
        10,
        50,
        250,
        500,
        1_000,
        1_000,
        10_000,
    ]
    assert tick_interval_us(10, 0.5, floor_ms=0.5) == 500
    assert tick_interval_us(10_000_000, 0.5) == 1_000_000
    assert all(low < high for low, high in pairwise(TICK_BANDS_US))


def test_what_was_saved_is_loaded(made: tuple[EccCalibration, Path], tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    save_calibration(RealFiles(), path, made[0])
    save_calibration(RealFiles(), path, made[0])
    assert load_calibration(path) == made[0]


def test_a_file_that_was_altered_at_any_byte_is_refused(made: tuple[EccCalibration, Path], tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    save_calibration(RealFiles(), str(path), made[0])
    whole = path.read_bytes()
    here = this_machine()
    blank = {place for place, byte in enumerate(whole) if byte in b" \n"}
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 0x01
        path.write_bytes(altered)
        try:
            assert load_calibration(str(path), of_machine=here) == made[0]
            same = json.loads(altered) == json.loads(whole)
            assert place in blank or same, "only what is between the values, or an equal number, may change"
        except CalibrationInvalid:
            pass
        if place % 7 == 0 and place < len(whole.rstrip()):
            path.write_bytes(whole[:place])
            with pytest.raises(CalibrationInvalid):
                load_calibration(str(path), of_machine=here)


def test_a_calibration_of_another_machine_is_refused(made: tuple[EccCalibration, Path], tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    save_calibration(RealFiles(), path, made[0])
    here = this_machine()
    for name in Machine.__struct_fields__:
        other = msgspec.structs.replace(here, **{name: 99 if name == "cores" else "other"})
        with pytest.raises(CalibrationInvalid, match=f"another machine \\({name} differ"):
            load_calibration(path, of_machine=other)


def test_a_missing_file_and_a_full_disk_are_told(made: tuple[EccCalibration, Path], tmp_path: Path) -> None:
    with pytest.raises(CalibrationInvalid, match="No such file"):
        load_calibration(str(tmp_path / "none"))
    with pytest.raises(CalibrationInvalid, match="not stored"):
        save_calibration(DyingFiles(1), str(tmp_path / "c.json"), made[0])
    with pytest.raises(CalibrationInvalid, match="existing folder"):
        calibrate(CalibrationSettings(str(tmp_path / "none"), **SMALL))


def test_a_figure_that_no_measurement_gives_is_refused(made: tuple[EccCalibration, Path], tmp_path: Path) -> None:
    path = str(tmp_path / "c.json")
    for name in ("compute_p95_us", "tick_interval_ms", "spectrum_us"):
        save_calibration(RealFiles(), path, msgspec.structs.replace(made[0], **{name: 0.0}))
        with pytest.raises(CalibrationInvalid, match="no measurement"):
            load_calibration(path)


@pytest.mark.parametrize(
    "settings",
    [
        {"sizes": ()},
        {"sizes": (0,)},
        {"sizes": (5, 5)},
        {"sizes": (9, 3)},
        {"sizes": (limits.CALIBRATION_VECTORS + 1,)},
        {"dimensions": 0},
        {"runs": 0},
        {"warm_up": -1},
        {"tick_budget_ratio": 0.0},
        {"tick_budget_ratio": float("nan")},
        {"tick_interval_ms": -1.0},
        {"spectral_nodes": 1},
        {"time_limit_s": float("nan")},
    ],
    ids=repr,
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(CalibrationInvalid, match=next(iter(settings))):
        CalibrationSettings("/nowhere", **settings)


@pytest.mark.slow
def test_the_default_reaches_its_sizes_when_it_has_the_time(tmp_path: Path) -> None:
    found = calibrate(CalibrationSettings(str(tmp_path), time_limit_s=120.0))
    assert [one.vectors for one in found.index] == [1_000, 10_000]
    assert found.complete
    assert found.spectral_nodes == 1_000
