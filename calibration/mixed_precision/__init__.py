"""Which groups of nodes to leave in float, so that int8 keeps to the accuracy budget: see `search`."""
