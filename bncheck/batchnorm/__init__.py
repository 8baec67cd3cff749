"""Variables to layers: roles, grouping, and the numbers of each vector."""
