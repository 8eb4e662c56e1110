"""Merkle trees of RFC 9162: growing ones, and proofs about them. Pure; below the log and below what agents run, because
both need them and an agent must not load the log.
"""
