"""What session modules of several backends are made of."""
