"""The writer: how a log is opened and recovered, appended to, and fixed by checkpoints."""
