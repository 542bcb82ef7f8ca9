"""Images of prompts and answers: skeletons, masks, contact sheets."""
