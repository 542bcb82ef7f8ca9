"""What `uniphd-eval` measures: a class per protocol, chosen by the group `protocol`."""
