"""What depends on what in a network: its layers, and the groups of units that go together."""
