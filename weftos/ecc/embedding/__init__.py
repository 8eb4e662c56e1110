"""Providers that turn text into vectors, each with an identity of its own."""
