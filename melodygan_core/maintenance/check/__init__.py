"""Finds what is incomplete, damaged or not needed in a store."""

from melodygan_core.maintenance.check.older import older_models
from melodygan_core.maintenance.check.report import BAD, Finding, Report
from melodygan_core.maintenance.check.run import check_store

__all__ = ["BAD", "Finding", "Report", "check_store", "older_models"]
