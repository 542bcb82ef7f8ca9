"""From predictions to people in the photograph's pixels."""
