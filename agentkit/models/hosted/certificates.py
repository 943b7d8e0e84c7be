"""Whose certificates are trusted."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

from agentkit.errors import ConfigurationError

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Each names a file or a folder of them; the first that is set counts."""


def tls_context(verify: bool | str | Path = True) -> ssl.SSLContext:
    """What connections are encrypted by; `verify` names a file or folder of certificates, or says whether to check any.

    Raises `ConfigurationError` for one that cannot be read.
    """
    if verify is False:
        return httpx.create_ssl_context(verify=False)
    if verify is not True:
        return _trusting("verify", str(verify))
    named = next((name for name in VARIABLES if os.environ.get(name)), None)
    return httpx.create_ssl_context() if named is None else _trusting(named, os.environ[named])


def _trusting(name: str, given: str) -> ssl.SSLContext:
    path = os.path.expanduser(given)
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = error.strerror if isinstance(error, FileNotFoundError) else "no certificates in PEM format"
        raise ConfigurationError(f"{name}: {given} cannot be used ({reason}); name a file of certificates") from None
