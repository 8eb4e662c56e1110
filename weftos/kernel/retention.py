"""What the configuration says about archiving and pruning, in the words of the log."""

from __future__ import annotations

from weftos.chain.retention.policy import RetentionPolicy
from weftos.config import ChainSection
from weftos.home import Home

__all__ = ["retention_policy"]


def retention_policy(home: Home, section: ChainSection) -> RetentionPolicy:
    """Return the rules, and the folder of the archive."""
    return RetentionPolicy(
        keep_segments=section.keep_segments,
        keep_days=section.keep_days,
        keep_bytes=section.keep_bytes,
        archive=None if section.archive == "by-hand" else section.archive,
        archive_dir=str(home.archive_of(section.archive_dir)),
    )
