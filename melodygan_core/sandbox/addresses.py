"""Which IP addresses a download may connect to: a fixed list, the same on every version of Python.

Python's `is_global` is not asked: it passes cloud metadata services outside the private ranges, and its tables
differ between versions. The list has every block of IANA's special-purpose registries (RFC 6890 and updates),
those that are globally reachable included: they are anycast services and sinkholes, and none holds sound.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from melodygan_core.errors import InputError, TrackError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressError(TrackError, OSError):
    """A refused address. It is an OSError, so that a client tries the next address of the host."""


@dataclass(frozen=True)
class Block:
    """Addresses that are refused.

    Attributes:
        network: The addresses.
        reason: Why, in a few words.
        own: Allowed where `allow_private` is set: the user's machine and network.
    """

    network: IPNetwork
    reason: str
    own: bool = False


def _block(network: str, reason: str, *, own: bool = False) -> Block:
    return Block(ipaddress.ip_network(network), reason, own)


# They hand credentials to whoever asks from inside, so that no setting allows them. They come before the blocks
# that they lie in.
METADATA = (
    _block("169.254.169.254/32", "cloud metadata (AWS, Azure, Google, Oracle, OpenStack and others)"),
    _block("169.254.170.2/32", "cloud metadata (AWS ECS)"),
    _block("169.254.170.23/32", "cloud metadata (AWS EKS)"),
    _block("169.254.0.23/32", "cloud metadata (Tencent)"),
    _block("169.254.42.42/32", "cloud metadata (Scaleway)"),
    _block("192.0.0.192/32", "cloud metadata (Oracle)"),
    _block("168.63.129.16/32", "cloud metadata (Azure's host agent)"),
    _block("100.100.100.200/32", "cloud metadata (Alibaba)"),
    _block("fd00:ec2::/32", "cloud metadata (AWS)"),
    _block("fd20:ce::/64", "cloud metadata (Google)"),
    _block("fd00:c1::a9fe:a9fe/128", "cloud metadata (Oracle)"),
    _block("fd00:42::42/128", "cloud metadata (Scaleway)"),
)

# https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast.
IPV4 = (
    _block("0.0.0.0/8", "unspecified"),
    _block("10.0.0.0/8", "private", own=True),
    _block("100.64.0.0/10", "private: shared by a provider's customers", own=True),
    _block("127.0.0.0/8", "loopback", own=True),
    _block("169.254.0.0/16", "link-local"),
    _block("172.16.0.0/12", "private", own=True),
    _block("192.0.0.0/24", "reserved: protocol assignments"),
    _block("192.0.2.0/24", "reserved: documentation"),
    _block("192.31.196.0/24", "reserved: AS112, a sinkhole"),
    _block("192.52.193.0/24", "reserved: multicast tunnels (AMT)"),
    _block("192.88.99.0/24", "reserved: relays of 6to4, deprecated"),
    _block("192.168.0.0/16", "private", own=True),
    _block("192.175.48.0/24", "reserved: AS112, a sinkhole"),
    _block("198.18.0.0/15", "private: benchmarks", own=True),
    _block("198.51.100.0/24", "reserved: documentation"),
    _block("203.0.113.0/24", "reserved: documentation"),
    _block("224.0.0.0/4", "multicast"),
    _block("240.0.0.0/4", "reserved: future use, and broadcast"),
)

# https://www.iana.org/assignments/iana-ipv6-special-registry. What is outside 2000::/3 and not named here is
# not assigned to anybody.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
IPV6 = (
    _block("::/128", "unspecified"),
    _block("::1/128", "loopback", own=True),
    _block("::ffff:0:0/96", "reserved: IPv4-mapped"),
    _block("64:ff9b:1::/48", "reserved: local translation to an IPv4 address that cannot be known"),
    _block("100::/64", "reserved: discarded"),
    _block("100:0:0:1::/64", "reserved: dummy prefix"),
    _block("2001::/32", "reserved: Teredo, a deprecated tunnel"),
    _block("2001:2::/48", "reserved: benchmarks"),
    _block("2001:3::/32", "reserved: multicast tunnels (AMT)"),
    _block("2001:4:112::/48", "reserved: AS112, a sinkhole"),
    _block("2001:10::/28", "reserved: hashes of keys (ORCHID)"),
    _block("2001:20::/28", "reserved: hashes of keys (ORCHIDv2)"),
    _block("2001:30::/28", "reserved: identities of drones"),
    _block("2001::/23", "reserved: protocol assignments"),
    _block("2001:db8::/32", "reserved: documentation"),
    _block("2002::/16", "reserved: 6to4, a deprecated tunnel"),
    _block("2620:4f:8000::/48", "reserved: AS112, a sinkhole"),
    _block("3fff::/20", "reserved: documentation"),
    _block("5f00::/16", "reserved: segment routing"),
    _block("fc00::/7", "private", own=True),
    _block("fe80::/10", "link-local"),
    _block("fec0::/10", "private: site-local, deprecated", own=True),
    _block("ff00::/8", "multicast"),
)

# Translators deliver to the IPv4 address in the last 32 bits, and to nothing else.
_TRANSLATED = (
    ipaddress.IPv6Network("::ffff:0:0/96"),
    ipaddress.IPv6Network("64:ff9b::/96"),
)
# Tunnels: the IPv4 address receives the packet first. The number is how many bits follow it.
_TUNNELS = (
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b:1::/48"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
# Identifiers of ISATAP (RFC 5214), which can follow any prefix: the site's router delivers to the last 32 bits.
_ISATAP = (0x00005EFE, 0x02005EFE)


def receivers(address: IPAddress) -> list[IPAddress]:
    """Returns all addresses that receive a packet to an address: itself, and the IPv4 addresses inside it.

    IPv4-mapped and NAT64 addresses stand for the IPv4 address alone. IPv4-compatible, IPv4-translated, 6to4,
    Teredo and ISATAP addresses are checked with the IPv4 address inside them, which comes first.
    """
    if isinstance(address, ipaddress.IPv4Address) or int(address) in (0, 1):
        return [address]
    value = int(address)
    if any(address in network for network in _TRANSLATED):
        return [_ipv4(value)]
    inner: list[IPAddress] = [_ipv4(value >> after) for network, after in _TUNNELS if address in network]
    if address.teredo is not None:
        inner += address.teredo
    if value >> 32 & 0xFFFFFFFF in _ISATAP:
        inner.append(_ipv4(value))
    return [*inner, address]


def _ipv4(value: int) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(value & 0xFFFFFFFF)


# Each connection asks at least twice for the same address.
@lru_cache(maxsize=1024)
def _block_of(address: IPAddress) -> Block | None:
    known = IPV4 if isinstance(address, ipaddress.IPv4Address) else IPV6
    for block in (*METADATA, *known):
        if address in block.network:
            return block
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return Block(ipaddress.IPv6Network("::/0"), "reserved: not assigned")
    return None


def check_address(ip: str, *, allow_private: bool) -> None:
    """Raises AddressError for an address that is not on the public internet.

    Args:
        ip: A numeric IPv4 or IPv6 address; a zone (`%eth0`) is ignored.
        allow_private: Also allow loopback, private and carrier-grade NAT addresses. Cloud metadata, link-local,
            multicast, unspecified and reserved addresses are always refused.

    Raises:
        InputError: `ip` is not numeric.
        AddressError: a TrackError; the address, or an IPv4 address inside it (see receivers), is refused.
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError as error:
        raise InputError(f"ip must be a numeric IPv4 or IPv6 address, got {ip!r}") from error
    for receiver in receivers(address):
        block = _block_of(receiver)
        if block is not None and not (allow_private and block.own):
            raise AddressError(f"address {ip} is refused: {block.reason}; it must be public")
