"""Criteria of what goes first, and the scorers behind them."""
