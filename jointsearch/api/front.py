"""A study's front as a table that people compute with."""

from __future__ import annotations

from typing import Any

from jointsearch.study.analysis.front_table import front_rows, front_table
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.plans import records_with_front
from jointsearch.study.stored import StoredStudy

Table = Any
"""A pandas ``DataFrame`` where pandas is there, else a list of dicts."""


def front_of(study: StoredStudy) -> Table:
    """The points of the front by rising bytes, with the columns of ``jointsearch front --format json``."""
    records = records_with_front(study)
    rows = [
        row for row in front_rows(front_table(study, records), judge(study, records)) if row.pop("on_front")
    ]
    try:
        import pandas as pd
    except ImportError:
        return rows
    return pd.DataFrame(rows)
