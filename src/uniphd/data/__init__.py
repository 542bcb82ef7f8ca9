"""RefHuman on disk -> typed batches: annotations, images, transforms, prompts, data module."""
