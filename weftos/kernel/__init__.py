"""The kernel: boot, processes, supervision, grants, services, control socket.

Its laws:

1. It is never on the message path, and it never waits for an agent. Whatever could block is non-blocking or belongs to
another process.
2. It runs one thread and forks only from it. Nothing it imports starts a thread.
3. It holds no secret: keys live in the service process.
4. Nothing privileged happens before the gate answered Permit, and an unreachable gate is a Deny.
5. Every change of state is an event on the chain, written once, by whoever made the change.
6. What it knows about an agent it has seen itself (``wait4``, ``/proc``, rings), not heard from the agent.

It imports nothing above it; the command line and the benchmark are its clients through ``weftos.rpc``.
"""

import os

# Before anything loads NumPy: agents and service are forked with what is loaded here, and a second thread of BLAS waits
# by spinning, on a core that those have need of. Whoever sets the variable has his way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
