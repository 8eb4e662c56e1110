"""Copies of a log: made by following it, and made whole again from the archive."""
