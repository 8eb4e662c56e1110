"""The service process: log and gate for all; its loop, and the client that agents hold."""
