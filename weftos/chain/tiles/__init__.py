"""The Merkle tree as tiles, in the form of C2SP tlog-tiles."""
