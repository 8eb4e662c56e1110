"""``weaver``, the operator's tool: click commands, each a thin client of the control socket or of the files."""
