"""The service process, sole owner of the chain and the gate, and the client that others use to talk to it."""
