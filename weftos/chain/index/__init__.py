"""The index beside a log: keys of events, things with a lineage, heads of foreign logs."""
