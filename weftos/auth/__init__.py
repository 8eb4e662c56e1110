"""Tokens of users and credentials of agents: pure parts, and the files of the vault.

Nothing here decides who may do what, and nothing is recorded here; the service process and the kernel do both.
"""
