"""The networks and the curve: what they are made of, their weights, and how they are run fast on a CPU."""
