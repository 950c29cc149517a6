"""Sample data, what a model's tensors look like over it, ranges from that, and the plans that rest on them.

Nothing heavy is imported here; import the module that you need.
"""
