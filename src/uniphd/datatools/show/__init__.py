"""`uniphd-data show`: the people of a data set on one page."""
