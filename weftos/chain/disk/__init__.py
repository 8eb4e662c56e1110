"""The files below a log: calls that can be made to fail, clocks, files that hold secrets."""
