"""What every step of a run needs: context, progress, time, scratch folders, concurrency, and what user code read."""
