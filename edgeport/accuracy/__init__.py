"""Metrics of a model's outputs, and how sure one may be of a difference between two models.

`metrics` needs numpy only; `intervals` and `compare` load scipy when they are called.
"""

from edgeport.accuracy.compare import accuracy_result, least_samples
from edgeport.accuracy.metrics import METRICS, Evaluation, Metric, Truth, evaluate, metric_named

__all__ = ["METRICS", "Evaluation", "Metric", "Truth", "accuracy_result", "evaluate", "least_samples", "metric_named"]
