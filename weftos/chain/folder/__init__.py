"""The folder of a log: its segments, open and closed, how a record is found in them, pages of raw records."""
