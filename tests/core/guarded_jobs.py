"""Runs many jobs of the guarded child in one process, as `child.main` runs one, with the resolver of the test.

`python -m tests.core.guarded_jobs`, a JSON of `jobs`, `hosts` and `allowed` on standard input.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import tempfile
from typing import Any

from melodygan_core.sandbox import child, net


def main() -> None:
    wanted = json.loads(sys.stdin.read())
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, family: int = 0, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.endswith(".example"):
            found = wanted["hosts"].get(name)
            if found is None:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real(found, port, family, *more, **named)
        return real(host, port, family, *more, **named)

    socket.getaddrinfo = resolve
    net.apply_limits(net.Limits(300, 50_000_000))
    net.guard(allow_private=False, allowed=[(h, p) for h, p in wanted["allowed"]])
    tasks = {"expand": child.expand, "download": child.download}
    replies: list[tuple[str, str]] = []
    for job in wanted["jobs"]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            try:
                replies.append(("good", json.dumps(tasks[job["task"]](job))))
            except Exception as error:
                replies.append(child._classify(error))
    print(json.dumps(replies))


if __name__ == "__main__":
    main()
