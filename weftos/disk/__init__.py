"""The files below all that is kept: calls that can be made to fail, clocks, files that hold secrets."""
