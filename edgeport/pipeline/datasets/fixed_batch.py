"""Settings for a model whose batch is fixed; light, for it is asked by parents and children alike."""

from __future__ import annotations

from dataclasses import replace

from edgeport.contracts import ExecutionConfig, OnnxModel
from edgeport.errors import UsageError

__all__ = ["execution_for"]


def execution_for(model: OnnxModel, execution: ExecutionConfig) -> ExecutionConfig:
    """The settings with the batch that the model is fixed to, if it is.

    Raises:
        UsageError: Another batch was asked for.

    """
    if model.fixed_batch is None:
        return execution
    if execution.batch not in (1, model.fixed_batch):
        raise UsageError(
            asked=f"run {model.path.name} with {execution.batch} samples per call",
            found=f"a model whose batch is fixed to {model.fixed_batch}",
            fix="leave the batch out, or export the model with a free batch",
        )
    return replace(execution, batch=model.fixed_batch)
