"""Whether the hub of data sets and weights can be reached, found out quickly and quietly."""

from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub
from huggingface_hub import constants

SECONDS = 5.0


def hub_reachable() -> bool:
    """True if the hub answers within a few seconds; its own client would retry for a minute."""
    try:
        huggingface_hub.utils.get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # name resolution, proxies, certificates: each client version has its own types
        return False
    return True


@contextmanager
def offline_unless(reachable: bool) -> Iterator[None]:
    """Let the hub's client use nothing but its cache while the hub cannot be reached."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
