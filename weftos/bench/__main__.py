"""``python -m weftos.bench``: measure, print a table with ratios, or one JSON object.

Why it is as it is: numpy and the kernel are imported only once a benchmark runs, after the number of BLAS threads is
fixed, because each of those threads would compete with what is measured.

Guaranteed: nothing is left behind, also after Ctrl-C (status 130). Status 1: a benchmark could not run at all.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any, Final

import click
import msgspec

from weftos.bench.model import Collector, Report, Settings
from weftos.errors import WeftError

__all__ = ["main"]

_BENCHES: Final = ("throughput", "latency", "chain", "log", "gate", "spawn", "recall", "memory")
#: Rounds and seconds of a measurement, thorough and quick.
_ROUNDS, _SECONDS, _QUICK_SECONDS = 3, 0.5, 0.06


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bench", type=click.Choice([*_BENCHES, "all"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--quick", is_flag=True, help="One short round: shows that all works, and the order of magnitude.")
@click.option("--peers", is_flag=True, help="Measure other packages in the same run, as far as they are installed.")
@click.option("--rounds", type=click.IntRange(1, 1000), help=f"Repetitions; medians count.  [default: {_ROUNDS}]")
@click.option("--seconds", type=click.FloatRange(0.01, 3600), help=f"Length of one measurement.  [default: {_SECONDS}]")
@click.option("--vectors", type=click.IntRange(1000, 10_000_000), help="memory: entries.  [default: 100000]")
@click.option(
    "--dimension", type=click.IntRange(2, 4096), default=128, help="memory: numbers in a vector.  [default: 128]"
)
@click.option("--large", is_flag=True, help="memory: a million vectors as well; takes minutes and 4 GB of disk.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, writable=True), default="", help="memory: write the curves as SVG."
)
def main(bench: str, as_json: bool, rounds: int | None, seconds: float | None, **chosen: Any) -> None:
    """Measure WeftOS on this machine."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    quick, chosen["vectors"] = chosen["quick"], chosen["vectors"] or 0
    settings = Settings(
        rounds=rounds or (1 if quick else _ROUNDS), seconds=seconds or (_QUICK_SECONDS if quick else _SECONDS), **chosen
    )
    from weftos.bench.machine import machine, versions

    # A polite end cleans up just as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    report = Report(machine(), versions(peers=settings.peers or bench == "memory"))
    failed = False
    try:
        for name in _BENCHES if bench == "all" else (bench,):
            collector = _run(name, settings)
            failed |= not collector.rows()
            report.rows += collector.rows()
            report.skipped += collector.skipped()
    except KeyboardInterrupt:
        click.echo("interrupted; everything that was started has ended", err=True)
        sys.exit(130)
    except WeftError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        from weftos.bench.tables import print_report

        print_report(report)
    sys.exit(1 if failed else 0)


def _run(name: str, settings: Settings) -> Collector:
    module: Any = importlib.import_module(f"weftos.bench.{name}")
    collector: Collector = module.run(settings)
    return collector


if __name__ == "__main__":
    main()
