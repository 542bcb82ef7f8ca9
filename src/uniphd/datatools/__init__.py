"""Tools that make, check and show data sets; the commands of `uniphd-data` call them."""
