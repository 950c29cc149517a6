"""Makes smaller models: pruning, distillation and quantization-aware training, as commands and as steps of a recipe."""
