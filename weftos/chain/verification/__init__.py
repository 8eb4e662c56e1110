"""Whether a log is what its keys have signed, and proofs for single records and messages."""
