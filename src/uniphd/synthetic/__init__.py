"""Synthetic people: drawn scenes of referred people with captions, masks and keypoints."""
