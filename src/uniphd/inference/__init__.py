"""From predictions to people in the image's pixels."""
