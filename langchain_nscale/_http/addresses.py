"""Which addresses are this machine's own."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import httpx2


@lru_cache
def is_local(url: str) -> bool:
    """Return whether a URL leads to this machine, so that no one else sees the token."""
    try:
        host = httpx2.URL(url).host
    except (httpx2.InvalidURL, UnicodeError):
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
