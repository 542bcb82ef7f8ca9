"""A page and a JSON service around a predictor: `uniphd-serve`."""
