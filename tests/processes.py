"""What tests ask of processes."""

from __future__ import annotations

import os
import time


def nobody_left(group: int) -> bool:
    """Whether every process of the group ends within seconds."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
