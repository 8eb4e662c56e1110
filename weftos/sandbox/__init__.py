"""What confines an agent process: profiles, Landlock, seccomp, limits, and the measurement of what is in force."""
