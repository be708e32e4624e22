"""The resources of the code location."""

import dagster as dg

from melodygan_dagster.resources import from_environment


@dg.definitions
def defs() -> dg.Definitions:
    """Store, settings and artifact records, from the environment."""
    return dg.Definitions(resources=from_environment())
