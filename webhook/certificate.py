"""Where the served certificate comes from, as the server sees it."""

import ssl
from pathlib import Path
from typing import Protocol

from webhook import tls
from webhook.unavailable import Unavailable


class Source(Protocol):
    """A certificate to serve. Both methods may block, and raise Unavailable; then they are called again later."""

    def context(self) -> ssl.SSLContext:
        """A context that serves the certificate."""

    def publish(self) -> None:
        """See to it that the API server trusts the certificate; returns once it is told to."""


class Provided:
    """A certificate from elsewhere; who made the files made the API server trust them."""

    def __init__(self, certificate: Path, key: Path) -> None:
        try:
            self._context = tls.file_context(certificate, key)
        except OSError as error:  # ssl.SSLError is one too
            reason = getattr(error, "reason", None) or error.strerror or error
            raise Unavailable(
                f"{certificate}, {key}: not a certificate and its own key, both PEM and not encrypted ({reason})"
            ) from None

    def context(self) -> ssl.SSLContext:
        """The context made at the start."""
        return self._context

    def publish(self) -> None:
        """Nothing to do."""
