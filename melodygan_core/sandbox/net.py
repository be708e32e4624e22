"""The network guard, checked at the moment of connecting, and the child process that runs under it.

A check before the request is not enough: names are resolved again (DNS rebinding), servers redirect, and
playlists and HLS segments name other hosts. So the guard holds every connection of the child that runs yt-dlp.
"""

from __future__ import annotations

import ipaddress
import json
import os
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
from melodygan_core.sandbox.addresses import AddressError, check_address

# Started by yt-dlp to solve a site's challenge, without network permission (deno's default).
_JS_RUNTIMES = ("deno", "node", "bun", "qjs", "quickjs")
_STARTS_A_PROCESS = ("subprocess.Popen", "os.posix_spawn", "os.system", "os.exec", "os.spawn", "pty.spawn")
_OTHER_PROTOCOLS = ("ftplib.connect", "smtplib.connect", "imaplib.open", "poplib.connect", "nntplib.connect")


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
