"""What every benchmark stands on: arguments, results, kept work, models, data, timing."""
