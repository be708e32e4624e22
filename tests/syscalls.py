"""The calls by which a command changes files, in order and with all data, as strace reports them (Linux)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "lseek", "ftruncate",
    "truncate", "fallocate", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir",
    "mkdirat", "link", "linkat", "fsync", "fdatasync", "chdir", "copy_file_range", "sendfile",
)  # fmt: skip
# The longest string of a line; a write of more would be cut off, and is refused.
_LONGEST = 1 << 28
_LINE = re.compile(rb"(\d+) +(\w+)\((.*)\) += (-?\w+)(?:<([^>]*)>)?(?:\(deleted\))?[^=]*$", re.DOTALL)
_UNFINISHED, _RESUMED = b" <unfinished ...>", re.compile(rb"\d+ +<\.\.\. \w+ resumed>")


@dataclass(frozen=True)
class Call:
    """One successful call.

    Attributes:
        name: Such as `write`.
        fd: The descriptor that it uses or returns; -1 for calls on a path.
        path: Of the file or folder.
        target: The new path of a rename or link; the source of a `sendfile`.
        data: What is written; of a `sendfile` zeros, as many as it copies.
        position: Offset of a `pwrite` or of the source of a `sendfile`, result of an `lseek`, size of a
            `truncate` or `fallocate`; -1 otherwise.
        flags: Of an `open`, such as `O_WRONLY|O_CREAT`.
    """

    name: str
    fd: int
    path: str
    target: str = ""
    data: bytes = b""
    position: int = -1
    flags: str = ""


def require_strace() -> str:
    """Path of strace.

    Raises:
        RuntimeError: it is not installed.
    """
    found = shutil.which("strace")
    if found is None:
        raise RuntimeError(
            "strace must be installed to record calls, got none: `apt-get install strace` (Linux only)"
        )
    return found


def record(command: Sequence[str], root: Path, log: Path) -> Iterator[Call]:
    """Runs a command and yields the calls of it and its children that name a path below a folder.

    Args:
        command: Program and arguments.
        root: The folder; its path is resolved.
        log: A file for what the command prints.

    Raises:
        RuntimeError: strace is missing, or the command failed.
    """
    pipe = log.with_name("strace.pipe")
    os.mkfifo(pipe)
    options = [f"-s{_LONGEST}", "-e", f"trace={','.join(CALLS)}", "-o", str(pipe)]
    strace = [require_strace(), "-f", "--seccomp-bpf", "-y", "-xx", *options, *command]
    with log.open("wb") as output:
        process = subprocess.Popen(strace, stdout=output, stderr=subprocess.STDOUT)
        # If strace cannot start, nobody else would open the pipe.
        threading.Thread(target=lambda: (process.wait(), _release(pipe)), daemon=True).start()
        with pipe.open("rb") as lines:
            yield from parse(lines, root.resolve())
        if process.wait() != 0:
            raise RuntimeError(f"{command[0]} must succeed, got {process.returncode}: see {log}")


def _release(pipe: Path) -> None:
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def parse(lines: Iterator[bytes], root: Path) -> Iterator[Call]:
    """Yields the calls of strace's lines that name a path below a folder."""
    started: dict[bytes, bytes] = {}
    folders: dict[bytes, str] = {}
    inside = _hex(str(root))
    for read in lines:
        line = read.rstrip(b"\n")
        pid = line.split(b" ", 1)[0]
        if line.endswith(_UNFINISHED):
            started[pid] = line.removesuffix(_UNFINISHED)
            continue
        if resumed := _RESUMED.match(line):
            line = started.pop(pid, b"") + line[resumed.end() :]
        # Relative paths are those of children, which work in scratch folders below the root.
        if inside not in line and pid not in folders:
            continue
        found = _LINE.match(line)
        if found is None or found[4].startswith(b"-") or found[4] == b"?":
            continue
        if found[2] == b"chdir":
            folders[pid] = _text(found[3])
            continue
        call = _call(found[2].decode(), found[3], found[4], found[5], folders.get(pid, ""))
        if str(root) in (call.path[: len(str(root))], call.target[: len(str(root))]):
            yield call


def _hex(text: str) -> bytes:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(text)).encode()


def _bytes(quoted: bytes) -> bytes:
    return bytes.fromhex(quoted.strip(b'<>"').replace(b"\\x", b"").decode())


def _text(quoted: bytes) -> str:
    return os.fsdecode(_bytes(quoted))


def _absolute(folder: bytes, path: bytes, working: str) -> str:
    """Path of two arguments, a descriptor with its path (or nothing) and a path."""
    name = folder.partition(b"<")[2]
    return os.path.normpath(Path(_text(name) if name else working, _text(path)))


def _call(name: str, arguments: bytes, result: bytes, result_path: bytes | None, working: str) -> Call:
    parts = arguments.split(b", ")
    if name in _ON_FILES:
        return _on_file(name, parts, arguments, result)
    if name in ("open", "openat", "creat"):
        at, path, *rest = parts if name == "openat" else (b"", *parts)
        flags = "O_WRONLY|O_CREAT|O_TRUNC" if name == "creat" else rest[0].decode()
        opened = _text(result_path) if result_path else _absolute(at, path, working)
        return Call("open", int(result), opened, flags=flags)
    if name == "truncate":
        return Call(name, -1, _absolute(b"", parts[0], working), position=int(parts[1]))
    if name in ("rename", "link"):
        return Call(name, -1, _absolute(b"", parts[0], working), _absolute(b"", parts[1], working))
    if name in ("renameat", "renameat2", "linkat"):
        old, new = _absolute(parts[0], parts[1], working), _absolute(parts[2], parts[3], working)
        return Call(name.partition("at")[0], -1, old, new)
    if name in ("unlink", "rmdir", "mkdir", "unlinkat", "mkdirat"):
        at, path = parts[:2] if name.endswith("at") else (b"", parts[0])
        kind = "rmdir" if b"AT_REMOVEDIR" in arguments else name.removesuffix("at")
        return Call(kind, -1, _absolute(at, path, working))
    raise RuntimeError(f"a call below the store must be one that the model knows, got {name}")


# Calls with a descriptor first.
_ON_FILES = {
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "lseek", "ftruncate", "fallocate", "fsync",
    "fdatasync", "sendfile",
}  # fmt: skip


def _on_file(name: str, parts: list[bytes], arguments: bytes, result: bytes) -> Call:
    """The call on an open file."""
    data, position, source = b"", -1, ""
    if name == "sendfile":
        # The offset in the source, as shutil gives it.
        source, position = _text(parts[1].partition(b"<")[2]), int(parts[2].strip(b"[]").split(b"]")[0])
        data = bytes(int(result))
    elif name in ("write", "pwrite64"):
        if parts[1].endswith(b"..."):
            raise RuntimeError(f"a write must have at most {_LONGEST} bytes, got {result.decode()}")
        data = _bytes(parts[1])[: int(result)]
        position = int(parts[3]) if name == "pwrite64" else -1
    elif name in ("writev", "pwritev", "pwritev2"):
        data = b"".join(map(_bytes, re.findall(rb'iov_base="([^"]*)"', arguments)))[: int(result)]
        position = int(arguments.rpartition(b"]")[2].split(b", ")[2]) if name != "writev" else -1
    elif name == "lseek":
        position = int(result)
    elif name == "ftruncate":
        position = int(parts[1])
    elif name == "fallocate":
        if parts[1] != b"0":
            raise RuntimeError(f"the mode of fallocate must be 0, got {parts[1].decode()}")
        position = int(parts[2]) + int(parts[3])
    number, _, path = parts[0].partition(b"<")
    # A file that was removed while it is open can no longer appear anywhere.
    kind = "gone" if path.endswith(b"(deleted)") else _SHORT.get(name, name)
    return Call(kind, int(number), _text(path.partition(b">")[0]), source, data, position)


_SHORT = {
    "pwrite64": "write", "writev": "write", "pwritev": "write", "pwritev2": "write", "ftruncate": "truncate",
    "fdatasync": "fsync",
}  # fmt: skip
