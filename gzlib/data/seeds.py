"""Seeds derived from seeds, so that a step's random numbers need no state to be stored."""

import hashlib


def mix(*parts: int | str) -> int:
    """A 63-bit seed from any integers and words, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
