"""The values that pass between the stages, in the order of the data path.

    Query -> Forecast -> Candidate -> Decision -> Lease -> Answer -> CallResult -> Record

All are frozen, none knows AIOS, Redis or Chroma. Arrays are float64 unless said otherwise and are
indexed [query, model]; a missing outcome is NaN, never zero. Money is US dollars.
"""

from aios_eccos.records import Outcome, Record
from aios_eccos.values.arrays import BoolArray, Float32Array, FloatArray, IntArray
from aios_eccos.values.decision import (
    EXPLORED,
    Assignment,
    Candidate,
    Control,
    Decision,
    Forecast,
    Lease,
    Price,
    Slots,
)
from aios_eccos.values.query import NOT_ALLOWED, Ability, Model, Query, dollars_known
from aios_eccos.values.result import Answer, Attempt, CallResult, Failure, Refused

__all__ = [
    "EXPLORED",
    "NOT_ALLOWED",
    "Ability",
    "Answer",
    "Assignment",
    "Attempt",
    "BoolArray",
    "CallResult",
    "Candidate",
    "Control",
    "Decision",
    "Failure",
    "Float32Array",
    "FloatArray",
    "Forecast",
    "IntArray",
    "Lease",
    "Model",
    "Outcome",
    "Price",
    "Query",
    "Record",
    "Refused",
    "Slots",
    "dollars_known",
]
