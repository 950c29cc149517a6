"""What a PyTorch module is made of, and a file that makes it smaller; knows nothing of pruning's choices."""
