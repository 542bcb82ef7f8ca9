"""From an image and a prompt to the referred person; from a batch to detections."""
