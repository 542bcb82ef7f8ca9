"""From a batch to detections in the pixels of the original images."""
