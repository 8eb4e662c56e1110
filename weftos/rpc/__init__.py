"""The control socket: one table of methods, one line format, one client."""
