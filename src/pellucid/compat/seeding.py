"""One seed for every generator of random numbers that a program uses."""

from __future__ import annotations

import random

from pellucid.extras import require


def set_seed(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators; `generate` draws from torch's where it is given no seed."""
    require("torch", "set_seed")
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
