"""Evaluation of poses, masks and boxes."""
