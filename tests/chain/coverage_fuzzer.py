"""Runs one target of ``fuzz_targets`` under atheris: ``python coverage_fuzzer.py TARGET SECONDS CORPUS``.

A program of its own, because libFuzzer takes the process over and ends it. Exit status 0: nothing was found. Whatever
the target raises beyond its errors ends it with another status; the input is then in the corpus folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["weftos.chain"]):
    from fuzz_targets import TARGETS


def main(name: str, seconds: int, corpus: Path) -> None:
    target = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "good").write_bytes(target.good())
    scratch = Path(tempfile.mkdtemp(dir=corpus.parent))
    needs_folder = target.read.__code__.co_argcount == 2

    def one(data: bytes) -> None:
        try:
            target.read(data, scratch) if needs_folder else target.read(data)
        except target.errors:
            return

    options = [f"-max_total_time={seconds}", "-max_len=8192", f"-artifact_prefix={corpus.parent}/", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
