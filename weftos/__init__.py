"""WeftOS: an operating-system kernel for AI agents.

Every agent is a real OS process. A kernel forks, limits, watches and restarts them; messages travel through
shared-memory rings; one service process owns the tamper-evident log and the gate. Start with ``docs/architecture.md``.
"""

__version__ = "0.1.0"
