"""Synthetic people: rendered scenes of referred people with captions, masks and keypoints."""
