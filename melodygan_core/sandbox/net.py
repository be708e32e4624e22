"""The network guard, checked at the moment of connecting, and the child process that runs under it.

A check before the request is not enough: names are resolved again (DNS rebinding), servers redirect, and
playlists and HLS segments name other hosts. So the guard holds every connection of the child that runs yt-dlp.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from melodygan_core.errors import InputError, TrackError, TransientError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
# Started by yt-dlp to solve a site's challenge, without network permission (deno's default).
_JS_RUNTIMES = ("deno", "node", "bun", "qjs", "quickjs")
_STARTS_A_PROCESS = ("subprocess.Popen", "os.posix_spawn", "os.system", "os.exec", "os.spawn", "pty.spawn")
_OTHER_PROTOCOLS = ("ftplib.connect", "smtplib.connect", "imaplib.open", "poplib.connect", "nntplib.connect")


class AddressError(TrackError, OSError):
    """A refused address. It is an OSError, so that a client tries the next address of the host."""


def _embedded(address: IPAddress) -> list[IPAddress]:
    # The addresses that receive the packet: tunnels and translators deliver to the embedded IPv4 address.
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    return [address]


def _refusal(address: IPAddress, allow_private: bool) -> str:
    this_network = isinstance(address, ipaddress.IPv4Address) and address in _THIS_NETWORK
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    # The first kind that holds counts. Link-local is refused even where private addresses are allowed, because
    # cloud metadata services are there. Loopback comes first, because Python counts ::1 as reserved too.
    kinds = {
        "loopback": address.is_loopback,
        "unspecified": address.is_unspecified or this_network,
        "multicast": address.is_multicast,
        "link-local": address.is_link_local,
        "reserved": address.is_reserved,
        "private": site_local or not address.is_global,
    }
    kind = next((k for k, holds in kinds.items() if holds), "")
    return "" if allow_private and kind in ("loopback", "private") else kind


def check_address(ip: str, *, allow_private: bool) -> None:
    """Raises AddressError for an address that is not on the public internet.

    Args:
        ip: A numeric IPv4 or IPv6 address; a zone (`%eth0`) is ignored.
        allow_private: Also allow loopback, private and carrier-grade NAT addresses. Link-local, multicast,
            unspecified and reserved addresses are always refused.

    Raises:
        InputError: `ip` is not numeric.
        AddressError: a TrackError; the address, or the IPv4 address embedded in it (mapped, 6to4, Teredo,
            NAT64), is refused.
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError as error:
        raise InputError(f"ip must be a numeric IPv4 or IPv6 address, got {ip!r}") from error
    for inner in _embedded(address):
        reason = _refusal(inner, allow_private)
        if reason:
            raise AddressError(f"address {ip} is refused: {reason}; it must be public")


def check_url(url: str) -> None:
    """Raises InputError for anything but http and https with a host.

    Raises:
        InputError: another scheme (`file:`, `ftp:`, `ytsearch:`), or no host.
    """
    try:
        parts = urlsplit(url)
        ok = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError as error:
        raise InputError(f"url must be http:// or https:// with a host, got {url[:200]!r} ({error})") from error
    if not ok:
        raise InputError(f"url must be http:// or https:// with a host, got {url[:200]!r}")


def _numeric(sock: socket.socket, address: Any) -> tuple[Any, ...]:
    # The host is resolved once, here: a second resolution could give another address.
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        raise AddressError(f"address {str(address)[:100]} is refused: not an internet address")
    host = address[0].decode("ascii", "replace") if isinstance(address[0], bytes) else str(address[0])
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if not host:
            raise AddressError("an empty host is refused: unspecified") from None
        found = socket.getaddrinfo(host, address[1], sock.family, sock.type)
        return found[0][4]
    return (host, *address[1:])


def guard(*, allow_private: bool, allowed: Collection[tuple[str, int]] = ()) -> None:
    """Checks every connection of this process by `check_address` from now on; it cannot be undone.

    Wraps `socket.socket.connect` and `connect_ex`, and adds an audit hook for code that bypasses the wrappers.
    Child processes (except JavaScript runtimes), ftp and native HTTP clients are refused.

    Args:
        allow_private: See check_address.
        allowed: (address, port) pairs that are not checked.
    """
    passes = frozenset((host, int(port)) for host, port in allowed)

    def check(address: Any) -> None:
        if not isinstance(address, tuple):
            raise AddressError(f"address {str(address)[:100]} is refused: not an internet address")
        if (str(address[0]), address[1]) not in passes:
            check_address(str(address[0]), allow_private=allow_private)

    def wrap(real: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            numeric = _numeric(self, address)
            check(numeric)
            return real(self, numeric)

        return connect

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            if args[1] is not None:
                check(args[1])
        elif event in _STARTS_A_PROCESS:
            program = args[0][0] if isinstance(args[0], list | tuple) else args[0]
            if Path(os.fsdecode(program)).stem not in _JS_RUNTIMES:
                raise PermissionError(f"starting {program!r} is refused: it could connect anywhere")
        elif event in _OTHER_PROTOCOLS:
            raise AddressError(f"the protocol must be http or https, got {event}")

    for name in ("curl_cffi", "pycurl"):
        # They connect in C and bypass Python's sockets; None makes their import fail.
        sys.modules[name] = None  # type: ignore[assignment]
    setattr(socket.socket, "connect", wrap(socket.socket.connect))  # noqa: B010
    setattr(socket.socket, "connect_ex", wrap(socket.socket.connect_ex))  # noqa: B010
    sys.addaudithook(audit)


@dataclass(frozen=True)
class Limits:
    """The resource limits of a child process.

    Attributes:
        timeout_s: Wall-clock time in seconds.
        file_bytes: Size of the largest file that it may write.
        memory_bytes: Private memory, on Linux only. RLIMIT_AS would be stricter, but the JavaScript runtime
            reserves more address space than any sensible value.
        cpu_s: CPU time in seconds; None means a little more than the wall-clock time, which then ends first.
    """

    timeout_s: float
    file_bytes: int
    memory_bytes: int = 2 << 30
    cpu_s: float | None = None


def apply_limits(limits: Limits) -> None:
    """Sets the limits on this process and on the processes it starts."""
    # The parent kills at the time-out; the alarm is for a child whose parent was killed first.
    signal.alarm(int(limits.timeout_s) + 10)
    cpu_s = int(limits.timeout_s) + 5 if limits.cpu_s is None else max(1, int(limits.cpu_s))
    # Soft and hard limit. SIGXCPU at the soft one tells this limit from any other kill; SIGKILL ends what
    # ignores it.
    wanted = {
        resource.RLIMIT_FSIZE: (limits.file_bytes, limits.file_bytes),
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 5),
        resource.RLIMIT_CORE: (0, 0),
    }
    if sys.platform == "linux":
        wanted |= {resource.RLIMIT_DATA: (limits.memory_bytes,) * 2, resource.RLIMIT_NOFILE: (256, 256)}
    for name, values in wanted.items():
        highest = resource.getrlimit(name)[1]
        soft, hard = (v if highest == resource.RLIM_INFINITY else min(v, highest) for v in values)
        resource.setrlimit(name, (soft, hard))


def _environment(scratch: Path) -> dict[str, str]:
    # HOME is the scratch folder: no netrc, cookies, plugins or config. A proxy would resolve names itself.
    inherited = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    python_path = os.pathsep.join(
        str(Path(p).absolute()) for p in (*sys.path, str(Path(__file__).parents[1])) if p
    )
    return {k: os.environ[k] for k in inherited if k in os.environ} | {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONPATH": python_path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "YTDLP_NO_PLUGINS": "1",
    }


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # The group has ended; macOS raises PermissionError if only zombies are left.
        return
    finally:
        process.wait()


def _ends(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    text = file.read(8192)
    if size > 16384:
        file.seek(size - 8192)
        text += b"\n...\n"
    return (text + file.read()).decode("utf-8", "replace")


def run_child(job: dict[str, Any], limits: Limits, scratch: Path) -> tuple[int, bytes, str]:
    """Runs `python -m melodygan_core.sandbox.child` on a job, in a process group that this call ends.

    Args:
        job: Plain JSON with a `task`; see child.py.
        limits: The child sets them on itself; the parent enforces the time-out as well.
        scratch: Working folder, home and temporary folder of the child.

    Returns:
        Exit status, standard output, and the first and last lines of standard error.

    Raises:
        TransientError: the child took longer than the time-out.
    """
    body = json.dumps(job | {"limits": asdict(limits)}).encode()
    with tempfile.TemporaryFile(dir=scratch) as errors:
        command = [sys.executable, "-P", "-m", "melodygan_core.sandbox.child"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        with subprocess.Popen(
            command, **pipes, cwd=scratch, env=_environment(scratch), start_new_session=True
        ) as process:
            try:
                output, _ = process.communicate(body, timeout=limits.timeout_s)
            except subprocess.TimeoutExpired as error:
                raise TransientError(f"took longer than {limits.timeout_s:g} s") from error
            finally:
                _stop(process)
        return process.returncode, output, _ends(errors)


def ask_child(job: dict[str, Any], limits: Limits, scratch: Path) -> dict[str, Any]:
    """Returns the reply of a guarded child to a job.

    Raises:
        TrackError: the child reports a permanent failure.
        TransientError: the child reports a temporary failure, or died.
    """
    status, output, errors = run_child(job, limits, scratch)
    try:
        reply = json.loads(output)
    except ValueError:
        last = next(iter(reversed(errors.strip().splitlines())), "no message")
        raise TransientError(f"the {job['task']} process ended with status {status}: {last[:300]}") from None
    if "error" in reply:
        raise (TrackError if reply["error"] == "permanent" else TransientError)(reply["reason"])
    return reply["ok"]


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and its causes, also inside the wrappers of HTTP clients and of yt-dlp."""
    pending: list[Any] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [
                one.__cause__,
                one.__context__,
                getattr(one, "cause", None),
                getattr(one, "reason", None),
            ]
            pending += list(getattr(one, "exc_info", None) or ())[1:2]


def plain_text(value: object, length: int = 300) -> str:
    """Returns untrusted text on one line, without control, bidirectional and surrogate characters, capped."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(value if value is not None else ""))
    text = re.sub(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", "", text)
    return " ".join(text.split())[:length].strip()
