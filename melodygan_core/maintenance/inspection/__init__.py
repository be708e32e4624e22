"""What of a store is whole, torn, damaged or needed by nobody; and taking away what is not whole."""

from melodygan_core.maintenance.inspection.report import BAD, Finding, Report
from melodygan_core.maintenance.inspection.survey import inspect, repair

__all__ = ["BAD", "Finding", "Report", "inspect", "repair"]
