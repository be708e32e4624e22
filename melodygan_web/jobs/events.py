"""Progress of jobs as server-sent events: a page that reconnects gets what it missed, by `Last-Event-ID`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from melodygan_web.jobs.queue import JobQueue

# How often the queue is looked at, and how often an idle connection is kept open.
POLL_S, KEEP_ALIVE_S = 0.2, 15.0


def last_version(queue: JobQueue, event_id: str) -> int:
    """The number of the last change that a page has seen; 0 where it has seen none of this server.

    Args:
        queue: Whose changes are followed.
        event_id: The header `Last-Event-ID`, such as `1a2b3c4d-17`.
    """
    epoch, _, number = event_id.partition("-")
    known = epoch == queue.epoch and number.isascii() and number.isdigit() and len(number) < 18
    return int(number) if known else 0


async def job_events(queue: JobQueue, seen: int) -> AsyncIterator[str]:
    """Yields an event per changed job, for ever.

    Args:
        queue: Whose jobs are followed.
        seen: From `last_version`; 0 begins with every job.
    """
    # The page reconnects after a second when the server restarts.
    yield "retry: 1000\n\n"
    quiet_s = 0.0
    while True:
        if queue.version > seen:
            seen, jobs = queue.changed_since(seen)
            for job in jobs:
                data = json.dumps(job.to_event(), ensure_ascii=True)
                yield f"id: {queue.epoch}-{seen}\nevent: job\ndata: {data}\n\n"
            quiet_s = 0.0
        elif quiet_s >= KEEP_ALIVE_S:
            quiet_s = 0.0
            yield ": waiting\n\n"
        await asyncio.sleep(POLL_S)
        quiet_s += POLL_S
