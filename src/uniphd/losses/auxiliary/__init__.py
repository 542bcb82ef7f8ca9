"""Losses beside the published ones, each one file."""
