"""Short work of the studio: requests to services, in a queue on disk, run by one process with warm models."""

from melodygan_web.jobs.kinds import JOB_KINDS, JobKind
from melodygan_web.jobs.queue import JobQueue
from melodygan_web.jobs.record import Input, Job, State

__all__ = ["JOB_KINDS", "Input", "Job", "JobKind", "JobQueue", "State"]
