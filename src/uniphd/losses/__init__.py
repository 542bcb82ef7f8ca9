"""Training losses: matching of queries to people, and what is summed over the pairs."""
