"""The values that pass between the stages, in the order of the data path.

    Query -> Forecast -> Candidate -> Decision -> Lease -> Answer -> CallResult -> Record

All are frozen, none knows AIOS, Redis or Chroma. Arrays are float64 unless said otherwise and are
indexed [query, model]; a missing outcome is NaN, never zero. Money is US dollars.
"""

from aios_eccos.records import Outcome as Outcome
from aios_eccos.records import Record as Record
from aios_eccos.values.arrays import BoolArray as BoolArray
from aios_eccos.values.arrays import Float32Array as Float32Array
from aios_eccos.values.arrays import FloatArray as FloatArray
from aios_eccos.values.arrays import IntArray as IntArray
from aios_eccos.values.decision import EXPLORED as EXPLORED
from aios_eccos.values.decision import HELD as HELD
from aios_eccos.values.decision import Assignment as Assignment
from aios_eccos.values.decision import Candidate as Candidate
from aios_eccos.values.decision import Control as Control
from aios_eccos.values.decision import Decision as Decision
from aios_eccos.values.decision import Forecast as Forecast
from aios_eccos.values.decision import Gate as Gate
from aios_eccos.values.decision import Price as Price
from aios_eccos.values.need import NO_MONEY as NO_MONEY
from aios_eccos.values.need import TOO_MANY as TOO_MANY
from aios_eccos.values.need import Bar as Bar
from aios_eccos.values.need import Cap as Cap
from aios_eccos.values.need import Lease as Lease
from aios_eccos.values.need import Need as Need
from aios_eccos.values.need import Rates as Rates
from aios_eccos.values.need import Slots as Slots
from aios_eccos.values.need import Spent as Spent
from aios_eccos.values.need import Used as Used
from aios_eccos.values.plan import Plan as Plan
from aios_eccos.values.plan import PlanForecast as PlanForecast
from aios_eccos.values.query import CACHE_TTL_S as CACHE_TTL_S
from aios_eccos.values.query import NOT_ALLOWED as NOT_ALLOWED
from aios_eccos.values.query import NOT_LOCAL as NOT_LOCAL
from aios_eccos.values.query import Ability as Ability
from aios_eccos.values.query import Model as Model
from aios_eccos.values.query import Query as Query
from aios_eccos.values.query import Reading as Reading
from aios_eccos.values.query import Session as Session
from aios_eccos.values.query import dollars_known as dollars_known
from aios_eccos.values.result import Answer as Answer
from aios_eccos.values.result import Attempt as Attempt
from aios_eccos.values.result import CallResult as CallResult
from aios_eccos.values.result import Failure as Failure
from aios_eccos.values.result import Refused as Refused
from aios_eccos.values.result import Repeat as Repeat
from aios_eccos.values.result import Said as Said
from aios_eccos.values.result import Vote as Vote
from aios_eccos.values.result import VoteOutcome as VoteOutcome
