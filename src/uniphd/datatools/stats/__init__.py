"""`uniphd-data stats`: what a data set is made of, in numbers."""
