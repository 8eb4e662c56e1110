"""Collections of vectors, crash-safe and searched exactly: a scanned delta, sealed HNSW segments, tombstones."""
