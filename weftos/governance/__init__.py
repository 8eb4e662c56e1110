"""Who may do what: capabilities and the gate. Pure logic; the service process asks it, the kernel enforces it."""
