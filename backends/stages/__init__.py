"""Cuts an ONNX graph into stages that run beside each other; knows no runtime."""

from edgeport.backends.stages.partition import Cut, Stage, cut_graph
from edgeport.backends.stages.partition_graph import Costs
from edgeport.backends.stages.write import write_stages

__all__ = ["Costs", "Cut", "Stage", "cut_graph", "write_stages"]
