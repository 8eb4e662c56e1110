"""What a record can state beyond an event: custody, lineage, seals, foreign heads, windows of streams, prunings."""
