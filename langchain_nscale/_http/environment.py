"""Creates HTTP clients as the environment wants them: its proxies, its certificates."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from typing import Any
from urllib.request import getproxies

import httpx2

from langchain_nscale._http.address import environment_proxy, is_local
from langchain_nscale._http.client import AsyncSharedClient, Httpx2Client, SharedClient
from langchain_nscale._http.sockets import KEEPALIVE, max_connections, socket_options

is_direct = True
try:
    from langchain_nscale._http.blocking import DirectClient
    from langchain_nscale._http.looped import AsyncDirectClient
except ImportError:  # httptools has no wheel for this platform
    is_direct = False

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# Modules that Python and httpx2 import during the first async request.
_LATE_IMPORTS = ("encodings.idna", "anyio._backends._asyncio")

_prepared: set[bool] = set()  # for TLS, for what does without


def ssl_context() -> ssl.SSLContext:
    """Return the process's SSL context; it takes 30 ms to create, most of it reading."""
    try:
        return _read_certificates(*(os.environ.get(name) for name in _CERTIFICATES))
    except OSError as error:  # includes ssl.SSLError
        path = os.environ.get("SSL_CERT_FILE")  # a wrong SSL_CERT_DIR is ignored
        if not path:
            raise
        msg = f"SSL_CERT_FILE is {path!r}, which can't be used: {error}."
        raise ValueError(msg) from None


@lru_cache(maxsize=4)
def _read_certificates(*_: str | None) -> ssl.SSLContext:
    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def is_prepared(base_url: str) -> bool:
    """Return whether async requests to an address block the event loop nowhere."""
    return _is_tls(base_url) in _prepared


def prepare(base_url: str) -> None:
    """Do what blocks before the first async request: read files and import modules."""
    is_tls = _is_tls(base_url)
    if is_tls:
        with suppress(ValueError, OSError):  # reported by the request
            ssl_context()
    for name in _LATE_IMPORTS[: 1 if is_direct and not has_proxy(base_url) else 2]:
        import_module(name)
    _prepared.add(is_tls)


def _is_tls(base_url: str) -> bool:
    return base_url.lower().startswith("https:")


@lru_cache(maxsize=1)
def _default_headers() -> dict[str, str]:
    """Return the headers that httpx2 sends with every request."""
    nothing = httpx2.MockTransport(lambda _: httpx2.Response(200))
    with httpx2.Client(transport=nothing, trust_env=False) as client:
        return {name.decode(): value.decode() for name, value in client.headers.raw}


def make_client(base_url: str) -> SharedClient:
    """Create a sync client for an address.

    Behind a proxy it is httpx2's, which reads the proxy variables. What is meant for this
    machine never goes to a proxy, which would see the token. A ValueError names the
    variable of the environment that prevents it.
    """
    if is_direct and not has_proxy(base_url):
        direct = DirectClient  # pyright: ignore[reportPossiblyUnboundVariable]  # not if direct
        return direct(_default_headers(), ssl_context)
    return Httpx2Client(_through_httpx2(httpx2.Client, httpx2.HTTPTransport, base_url))


def make_async_client(base_url: str = "") -> AsyncSharedClient:
    """Create an async client for the running event loop; see `make_client`."""
    if is_direct and not has_proxy(base_url):
        direct = AsyncDirectClient  # pyright: ignore[reportPossiblyUnboundVariable]  # not if direct
        return direct(_default_headers(), ssl_context)
    client, transport = httpx2.AsyncClient, httpx2.AsyncHTTPTransport
    return Httpx2Client(_through_httpx2(client, transport, base_url))


def _through_httpx2(new_client: Any, new_transport: Any, base_url: str) -> Any:
    count = max_connections()
    arguments: dict[str, Any] = {
        "limits": httpx2.Limits(
            max_connections=count,
            max_keepalive_connections=count,
            keepalive_expiry=KEEPALIVE,
        ),
        "verify": ssl_context(),
    }
    # Clients are shared between tokens, so they keep no cookies.
    cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    try:
        if has_proxy(base_url):
            return new_client(**arguments, cookies=cookies)
        transport = new_transport(**arguments, socket_options=socket_options())
        return new_client(cookies=cookies, transport=transport)
    except (ValueError, ImportError) as error:
        proxy = usable_proxy(base_url, error)
        return new_client(**arguments, cookies=cookies, trust_env=False, proxy=proxy)


def has_proxy(base_url: str) -> bool:
    """Return whether requests to an address may have to go through a proxy."""
    return bool({"http", "https", "all"} & getproxies().keys()) and not is_local(base_url)


def usable_proxy(base_url: str, error: Exception) -> str | None:
    """Return the proxy for an address if only other variables are unusable."""
    kind, proxy = environment_proxy(base_url) or ("", "")
    if not proxy:
        return None
    scheme = proxy.partition("://")[0]
    if scheme in ("http", "https"):
        return proxy
    hint = "install the extra `socks`: pip install 'langchain-nscale[socks]'"
    if scheme == "socks" or not isinstance(error, ImportError):
        hint = "use http://, https:// or socks5://"
    msg = f"{kind.upper()}_PROXY has a proxy of the kind {scheme}://: {hint}."
    raise ValueError(msg) from None
