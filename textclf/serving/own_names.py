"""Whether a request names this machine. A page of another site could lead a name of its own to a loopback address, and read
what a service without a token answers; its requests then name that site."""

from __future__ import annotations

import ipaddress


def names_this_machine(host: str) -> bool:
    """Returns whether a header Host, with or without a port, has the name or a loopback address of this machine."""
    return is_this_machine(host if host.endswith("]") else host.rpartition(":")[0] or host)


def is_this_machine(name: str) -> bool:
    """Returns whether a name or an address, perhaps in brackets, is one that only this machine can reach."""
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"
