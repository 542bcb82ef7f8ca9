"""Comparison with the official implementation: `make parity GOLDEN=DIR`."""
