"""Which addresses the guard refuses, whatever they are wrapped in; nothing here connects to any of them."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core.errors import InputError, TrackError
from melodygan_core.sandbox import addresses

PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PUBLIC += ["2001:4860:4860::8888", "2a00:1450::1", "192.0.1.1", "192.1.0.1", "100.63.255.255", "172.32.0.1"]
PRIVATE = ["127.0.0.1", "::1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fd00::1"]
PRIVATE += ["64:ff9b::7f00:1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "fec0::1"]
METADATA = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23", "169.254.42.42"]
METADATA += ["192.0.0.192", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd00:ec2::23"]
METADATA += ["fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42"]
NEVER = ["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "fe80::1"]
NEVER += ["192.0.0.8", "192.0.0.9", "192.0.0.11", "192.0.0.170", "192.0.2.1", "198.51.100.1", "203.0.113.1"]
NEVER += ["192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1", "3fff::1", "3fff:fff::1", "5f00::1"]
NEVER += ["100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2620:4f:8000::1"]
NEVER += ["64:ff9b:1::808:808", "2002:808:808::1", "::8.8.8.8", "4000::1", "fe80::1%eth0", "::ffff:0:8.8.8.8"]


def nat64(inner: ipaddress.IPv4Address) -> str:
    return str(ipaddress.IPv6Address((0x64FF9B << 96) | int(inner)))


def wrapped(inner: ipaddress.IPv4Address) -> list[str]:
    """Every IPv6 address known to deliver to an IPv4 address."""
    n = int(inner)
    return [
        f"::ffff:{inner}",
        f"::{inner}",
        f"::ffff:0:{inner}",
        nat64(inner),
        str(ipaddress.IPv6Address((0x64FF9B0001 << 80) | n)),
        # The layout of a 48-bit NAT64 prefix: the address is split around bits 64 to 71.
        str(ipaddress.IPv6Address((0x64FF9B0001 << 80) | (n >> 16 << 64) | ((n & 0xFFFF) << 40))),
        str(ipaddress.IPv6Address((0x2002 << 112) | (n << 80))),
        str(ipaddress.IPv6Address((0x2002 << 112) | (n << 80) | 1)),
        # Teredo names its server, and stores the address of its client inverted.
        str(ipaddress.IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (n ^ 0xFFFFFFFF))),
        str(ipaddress.IPv6Address((0x20010000 << 96) | (n << 64) | (0x08080808 ^ 0xFFFFFFFF))),
        # ISATAP below a public prefix.
        str(ipaddress.IPv6Address((0x26064700 << 96) | (0x00005EFE << 32) | n)),
        str(ipaddress.IPv6Address((0x26064700 << 96) | (0x02005EFE << 32) | n)),
    ]


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_pass(ip: str) -> None:
    addresses.check_address(ip, allow_private=False)


@pytest.mark.parametrize("ip", PRIVATE)
def test_private_addresses_pass_only_where_allowed(ip: str) -> None:
    addresses.check_address(ip, allow_private=True)
    with pytest.raises(TrackError, match=ip.partition("%")[0]):
        addresses.check_address(ip, allow_private=False)


@pytest.mark.parametrize("ip", [*NEVER, *METADATA])
@pytest.mark.parametrize("allow_private", [True, False])
def test_some_addresses_never_pass(ip: str, allow_private: bool) -> None:
    with pytest.raises(TrackError, match="is refused: "):
        addresses.check_address(ip, allow_private=allow_private)


@pytest.mark.parametrize("ip", METADATA)
def test_metadata_addresses_are_named_and_never_pass_in_any_wrapping(ip: str) -> None:
    inner = ipaddress.ip_address(ip)
    forms = [ip, *(wrapped(inner) if isinstance(inner, ipaddress.IPv4Address) else [])]
    for form in forms:
        with pytest.raises(TrackError) as caught:
            addresses.check_address(form, allow_private=True)
        # Local translation hides the address; it is refused as a whole.
        assert "cloud metadata" in str(caught.value) or form.startswith("64:ff9b:1:"), form


@given(st.ip_addresses(v=4))
def test_every_wrapping_of_a_refused_address_is_refused(inner: ipaddress.IPv4Address) -> None:
    for allow_private in (False, True):
        try:
            addresses.check_address(str(inner), allow_private=allow_private)
        except TrackError:
            for ip in wrapped(inner):
                with pytest.raises(TrackError):
                    addresses.check_address(ip, allow_private=allow_private)
        else:
            # IPv6-only networks reach IPv4 hosts by these.
            addresses.check_address(nat64(inner), allow_private=allow_private)


@pytest.mark.parametrize("block", [*addresses.METADATA, *addresses.IPV4, *addresses.IPV6], ids=str)
def test_a_block_is_refused_from_its_first_to_its_last_address(block: addresses.Block) -> None:
    for ip in (block.network.network_address, block.network.broadcast_address):
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            # It stands for the IPv4 address alone.
            continue
        with pytest.raises(TrackError, match="is refused: "):
            addresses.check_address(str(ip), allow_private=False)


@given(st.text(max_size=30))
def test_an_address_that_is_not_numeric_is_an_error(text: str) -> None:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        with pytest.raises(InputError):
            addresses.check_address(text, allow_private=True)


# The resolver and the system call are the test's own: what gets past the guard is written down, and nothing is
# connected to.
GUARDED = """
import json, socket, sys
from melodygan_core.sandbox import net
hosts, allow_private = json.loads(sys.argv[1]), sys.argv[2] == "private"
reached = []
def resolve(host, port, *more, **named):
    ip = hosts[host]
    kind = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return [(kind, socket.SOCK_STREAM, 6, "", (ip, port, 0, 0) if ":" in ip else (ip, port))]
def connect(self, address):
    reached.append(address[0])
    raise ConnectionRefusedError
socket.getaddrinfo, socket.socket.connect = resolve, connect
net.guard(allow_private=allow_private)
for host in hosts:
    try:
        socket.create_connection((host, 80), timeout=5)
    except (net.AddressError, ConnectionRefusedError):
        pass
    ip = hosts[host]
    try:
        socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET).connect((host, 80))
    except (net.AddressError, ConnectionRefusedError):
        pass
print(json.dumps(reached))
"""


@pytest.mark.parametrize(("setting", "passing"), [("public", PUBLIC), ("private", [*PUBLIC, *PRIVATE])])
def test_names_that_resolve_to_refused_addresses_reach_no_socket(setting: str, passing: list[str]) -> None:
    forms = [w for ip in METADATA if "." in ip for w in wrapped(ipaddress.IPv4Address(ip))]
    refused = [ip for ip in [*METADATA, *NEVER, *forms] if "%" not in ip]
    hosts = {f"host-{n}.example": ip for n, ip in enumerate([*refused, *passing])}
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, json.dumps(hosts), setting],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [ip for ip in passing for _ in range(2)]
