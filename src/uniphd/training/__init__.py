"""Training and validation with Lightning; the only place that knows it."""
