"""Composing, checking and launching a run from Hydra configurations."""
