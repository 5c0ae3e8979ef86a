"""Why a broker's certificate is refused: librdkafka gives one text for all reasons, Python's ssl module names them."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 2.0
_X509_EXPIRED, _X509_NOT_YET = 10, 9
_X509_HOST = {62, 64}
_X509_UNKNOWN = {2, 18, 19, 20, 21}


def refusal(address: str, properties: Mapping[str, str]) -> str | None:
    """Makes a handshake with the broker at host:port as these librdkafka properties say. Why its certificate is
    refused, None when this handshake does not say it. Nothing is sent after the handshake."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        context = _context(properties)
        with (
            contextlib.closing(socket.create_connection((host, int(port)), TIMEOUT_S)) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return describe(error.verify_code, error.verify_message, host)
    except (OSError, ValueError):
        return None


def describe(code: int, message: str, host: str) -> str:
    """code: an X509_V_ERR_ of OpenSSL."""
    if code in (_X509_EXPIRED, _X509_NOT_YET):
        return f"the broker's certificate {'has expired' if code == _X509_EXPIRED else 'is not valid yet'}"
    if code in _X509_HOST:
        return f"host name mismatch: the broker's certificate is not of {host}"
    if code in _X509_UNKNOWN:
        return f"unknown CA: no certificate of ssl.ca.location has signed the broker's ({message})"
    return f"the broker's certificate is refused: {message}"


def _context(properties: Mapping[str, str]) -> ssl.SSLContext:
    """Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    location = properties.get("ssl.ca.location", "probe")
    if "ssl.ca.pem" in properties:
        context.load_verify_locations(cadata=properties["ssl.ca.pem"])
    elif location == "probe":
        context.load_default_certs()
    elif Path(location).is_dir():
        context.load_verify_locations(capath=location)
    else:
        context.load_verify_locations(cafile=location)
    context.check_hostname = properties.get("ssl.endpoint.identification.algorithm", "https") != "none"
    return context
