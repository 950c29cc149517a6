"""One training loop for whatever learns here: fine-tuning, quantization-aware training, distillation."""

from edgeport.exporter.train.settings import Schedule, TrainingSettings
from edgeport.exporter.train.task import StepContext, Task, Trained, TrainedModule

__all__ = ["Schedule", "StepContext", "Task", "Trained", "TrainedModule", "TrainingSettings"]
