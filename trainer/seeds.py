"""Seeds from seeds: every random stream of a run has its own, made of what it is for.

No stream depends on how much another has drawn, so a run can start at any fold and epoch.
"""

import hashlib
import json


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on every part; other parts, an unrelated seed."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
