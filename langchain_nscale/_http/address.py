"""Checks the address of the API, and recognizes addresses of this machine."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import ClassVar
from urllib.request import getproxies, proxy_bypass

import httpx2

from langchain_nscale._failures import Proxy


class RequestGuard:
    """Keeps tests from sending requests to other machines."""

    is_active = False
    rejected: ClassVar[list[str]] = []  # addresses of requests that were not sent

    @classmethod
    def check(cls, url: str) -> None:
        """Raise an AssertionError if a request must not be sent."""
        if cls.is_active and not is_local(url):
            cls.rejected.append(url)
            msg = (
                f"A request to {url} was not sent: this test only allows servers on this "
                "machine. Use the fixture `nscale_server` or `nscale_environment`."
            )
            raise AssertionError(msg)


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


def environment_proxy(url: str) -> tuple[str, str] | None:
    """Return the kind and the address of the proxy that is set for a URL, if any."""
    address = httpx2.URL(url)
    proxies = getproxies()
    kind = address.scheme if address.scheme in proxies else "all"
    if kind not in proxies or is_local(url) or proxy_bypass(address.host):
        return None
    return kind, proxies[kind]


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy that the environment sets for a URL, if any."""
    found = environment_proxy(url)
    if found is None:
        return None
    kind, proxy = found
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    source = next(filter(os.environ.get, names), "the system's settings")
    scheme, mark, rest = proxy.rpartition("://")
    return Proxy(f"{scheme}{mark}{rest.rpartition('@')[2]}", source)  # no password


DEFAULT_BASE_URL = "https://inference.api.nscale.com/v1"

_BASE_URL_VARIABLES = ("NSCALE_BASE_URL", "NSCALE_API_BASE")


def resolve_base_url(value: str, *, insecure: bool) -> tuple[str, dict[str, str]]:
    """Return the checked address and its query: an argument, a variable, or Nscale's."""
    source = "`base_url`"
    if not value:
        value, source = DEFAULT_BASE_URL, "the default"
        for variable in reversed(_BASE_URL_VARIABLES):
            if from_environment := os.environ.get(variable):
                value, source = from_environment, variable
    return _checked_url(value.strip(), source, insecure=insecure)


@lru_cache(maxsize=128)
def _checked_url(
    value: str, source: str, *, insecure: bool
) -> tuple[str, dict[str, str]]:
    try:
        url = httpx2.URL(value)
        url.host.encode("idna")
    except (httpx2.InvalidURL, UnicodeError) as error:
        detail = "" if _public(value) != value else f": {error}"
        msg = f"{source} is {_public(value)!r}, which is not a valid URL{detail}."
        raise ValueError(msg) from None
    shown = _public(value)
    if url.userinfo:
        msg = (
            f"{source} contains a user name or password for {url.host}, which would "
            "replace the service token: remove it."
        )
        raise ValueError(msg)
    if url.scheme not in ("http", "https") or not url.host:
        msg = (
            f"{source} is {shown!r}: it must begin with https:// (or http://) and a "
            f"host, for example {DEFAULT_BASE_URL}."
        )
        raise ValueError(msg)
    if url.scheme == "http" and not is_local(value) and not insecure:
        msg = (
            f"{source} is {shown!r}: http:// would send the service token in clear "
            "text. Use https://, or allow_insecure_http=True."
        )
        raise ValueError(msg)
    address = value.partition("?")[0].partition("#")[0].rstrip("/")
    if url.fragment or address.endswith("/chat/completions"):
        address = address.removesuffix("/chat/completions")
        msg = f"{source} is {shown!r}: use {address!r}, without a path to an endpoint."
        raise ValueError(msg)
    return address, dict(url.params)


def _public(url: str) -> str:
    """Return a URL without what may be secret: user, password and query."""
    address, query, _ = url.partition("?")
    if "@" in address:
        address = re.sub(r"//[^/@]*@", "//…@", address)
    return f"{address}?…" if query else address
