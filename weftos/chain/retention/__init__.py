"""What becomes of old segments: archived, pruned, and what keeps that honest."""
