"""Ports that nobody listens on."""

from __future__ import annotations

import errno
import secrets
import socket

from moderation.errors import ServiceError

EVERYWHERE = "0.0.0.0"  # noqa: S104 - asked whether it is free, never listened on
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
"""Above those of Ray's workers (10002 to 19999), below those that systems give out by themselves (from 32768 on)."""


def is_free(port: int, host: str = EVERYWHERE) -> bool:
    """Whether somebody could listen there.

    Args:
        port: of TCP.
        host: an IP address of this machine; by default, all of its IPv4 addresses at once.

    Raises:
        ServiceError: this user may not, or the address is none of this machine.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise ServiceError(
                f"port {port} is not for this user ({error.strerror}); choose another with --port"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ServiceError(f"{host} is no address of this machine; choose another with --host") from error
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Ports in a row, drawn at random, on which nobody listens at any IPv4 address.

    What listens on them listens only seconds later; by then a port of the system's own range may be the near end of
    somebody's connection.

    Raises:
        ServiceError: there are none.
    """
    for _ in range(100):
        begin = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT - count)
        if all(is_free(port) for port in range(begin, begin + count)):
            return list(range(begin, begin + count))
    raise ServiceError(f"no {count} free ports in a row between {_FIRST_PORT} and {_LAST_PORT}")
