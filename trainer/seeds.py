"""Seeds from seeds: every random stream of a run has its own, made of what it is for.

No stream depends on how much another has drawn, so a run can start at any fold and epoch.
"""

import hashlib
import json
import operator
from typing import SupportsIndex


def derive_seed(*parts: SupportsIndex | str) -> int:
    """Return a seed in [0, 2**63) that depends on every part; other parts, an unrelated seed.

    Args:
        parts: Texts and whole numbers, also NumPy's, which count as the same number.
    """
    plain = [part if isinstance(part, str) else int(operator.index(part)) for part in parts]
    digest = hashlib.blake2b(json.dumps(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
