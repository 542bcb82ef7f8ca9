"""Images of prompts and detections: skeletons, masks, contact sheets."""
