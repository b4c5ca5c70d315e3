"""What must be made anew in a forked child, which has none of its parent's threads and maybe a lock that is held."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def renew_after_fork(method: Callable[[], object]) -> None:
    """Call a bound method in each child that this process forks, as long as its object lives."""
    if hasattr(os, "register_at_fork"):
        weak = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (renew := weak()) and renew())
