"""What ends a process of a test at a chosen step."""

import os
import signal


class Fuse:
    """Burns step by step once it is lit, and ends the process without a word.

    Args:
        steps: that it lets pass.
    """

    def __init__(self, steps):
        self.steps = steps
        self.lit = False

    def burn(self):
        self.steps -= self.lit
        if self.steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
