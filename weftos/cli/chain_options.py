"""Options that several commands about the log have: whose files are read, and whose keys count."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

__all__ = ["directory_option", "pinned_keys_option"]

#: The files of another log: ``directory``.
directory_option: Final = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of another chain, for example a copy; only its files are read.",
)
#: The keys that sign the log: ``key_file``.
pinned_keys_option: Final = click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the public keys of the log; otherwise those that this instance has pinned for it.",
)
