"""One training loop for whatever learns here: fine-tuning, quantization-aware training, distillation."""

from edgeport.exporter.train.settings import Schedule, TrainingSettings
from edgeport.exporter.train.task import Player, Task, Trained, Turn

__all__ = ["Player", "Schedule", "Task", "Trained", "TrainingSettings", "Turn"]
