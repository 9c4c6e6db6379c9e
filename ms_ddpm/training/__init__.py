"""The Trainer and what a run is made of: the step, optimizers, averages, precision, rates, resuming, the log."""
