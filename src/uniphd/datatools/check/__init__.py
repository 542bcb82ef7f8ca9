"""Everything that can be wrong with a folder of annotated people, found in one pass."""
