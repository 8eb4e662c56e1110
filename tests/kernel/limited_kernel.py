"""A kernel that is less patient than the real one: ``python limited_kernel.py NAME=SECONDS ...``, names of
``weftos.limits``.
"""

import sys

from weftos import limits

for text in sys.argv[1:]:
    name, _, value = text.partition("=")
    assert hasattr(limits, name), name
    setattr(limits, name, float(value))

# Only now, for some limits are defaults of parameters.
from weftos.home import find_home  # noqa: E402
from weftos.kernel.daemon import run_foreground  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(run_foreground(find_home()))
