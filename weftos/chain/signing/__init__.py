"""Keys, notes and checkpoints: who signs the log, and how it is checked."""
