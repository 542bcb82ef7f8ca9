"""Runs that survive kills: checkpoints, exact resuming, stop signals, non-finite steps."""
