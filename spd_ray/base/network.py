"""Addresses, interfaces and ports of this machine; URIs beside paths."""

import fcntl
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of a network interface


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def interface_of(address: str) -> str:
    """The network interface with that IPv4 address; Gloo's own choice is the host name's, often a loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    raise ValueError(f"no network interface has the address {address}")


def collective_interfaces(address: str) -> dict[str, str]:
    """The variables by which Gloo and NCCL take the interface of that address; NCCL takes a bare name for a prefix."""
    name = interface_of(address)
    return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": f"={name}"}


def is_uri(place: str) -> bool:
    """Whether `place` is a URI and not a path.

    >>> [is_uri(place) for place in ("s3://bucket/runs", "runs", "/data/a://b", "C:/runs")]
    [True, False, False, False]
    """
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", place) is not None


def join_place(place: str, name: str) -> str:
    """The path or URI of `name` in `place`; a URI's options (`?region=...`) stay at its end."""
    if not is_uri(place):
        return str(Path(place) / name)
    parts = urlsplit(place)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
