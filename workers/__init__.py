"""The built-in agent programs: each module is a program whose ``main(ctx)`` runs in a process of its own."""
