"""Witnesses: small processes that cosign the checkpoints of a log and refuse to go back.

A log can lie about its past in two ways: show two people two histories, or be put back to an older state. Both need
somebody outside who remembers what the log has said. Several witnesses, each under a user of its own, are that memory.
"""
