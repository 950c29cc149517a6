"""What recorded traces say: intervals, steady state, comparison and verdicts; pure functions, no device needed."""

from edgeport.devices.latency.comparison import compare, device_delta
from edgeport.devices.latency.summary import summarise
from edgeport.devices.latency.verdict import BudgetVerdict, judge_budget

__all__ = ["BudgetVerdict", "compare", "device_delta", "judge_budget", "summarise"]
