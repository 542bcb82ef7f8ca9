"""Comparing finished runs: one table, curves, and the published numbers beside."""
