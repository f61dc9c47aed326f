"""TLS over a link of the broker: the driver speaks it, whoever opened the connection."""

from __future__ import annotations

import ssl
from typing import Any

from vfab.model.errors import ConnectError, LinkLost
from vfab.sdk.link import Link

__all__ = ["TlsLink"]


class TlsLink:
    """What is read and written through `link` is encrypted; `read` and `write` are those of a link.

    Args:
        link: the connection; it stays its owner's, who also closes it.
        host: the name that the certificate must be for.
        verify: whether the certificate must be signed by an authority that this system knows.
        timeout_s: patience for the handshake.

    Raises ConnectError: the certificate is refused, or this is no TLS. LinkLost, TimeoutExceeded: as `link`.
    """

    def __init__(self, link: Link, host: str, *, verify: bool, timeout_s: float) -> None:
        self._link = link
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        try:
            self._do(self._tls.do_handshake, timeout_s=timeout_s)
        except ssl.SSLCertVerificationError as error:
            raise ConnectError(
                f"the certificate of {link.address} is refused: {error.verify_message}",
                context={"address": link.address},
                original_error=error,
                remedy="Install the camera's certificate, or trust this one address: --verify-tls false.",
                retryable=False,
            ) from error
        except ssl.SSLError as error:
            raise ConnectError(
                f"{link.address} does not speak TLS: {error.reason or error}",
                context={"address": link.address},
                original_error=error,
                remedy="Write the address with http:// instead of https://.",
                retryable=False,
            ) from error

    def read(self, size: int = 65536, *, timeout_s: float | None = 5.0) -> bytes:
        """As `Link.read`."""
        try:
            data: bytes = self._do(self._tls.read, size, timeout_s=timeout_s)
        except ssl.SSLError as error:
            raise LinkLost(f"{self._link.address} broke off: {error}", original_error=error) from error
        if not data:
            raise LinkLost(f"{self._link.address} closed the link", context={"address": self._link.address})
        return data

    def write(self, data: bytes, *, timeout_s: float | None = 5.0) -> None:
        """As `Link.write`."""
        self._do(self._tls.write, data, timeout_s=timeout_s)
        self._flush(timeout_s)

    def _do(self, function: Any, *args: Any, timeout_s: float | None) -> Any:
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                self._flush(timeout_s)
                self._in.write(self._link.read(timeout_s=timeout_s))
                continue
            self._flush(timeout_s)
            return result

    def _flush(self, timeout_s: float | None) -> None:
        if self._out.pending:
            self._link.write(self._out.read(), timeout_s=timeout_s)
