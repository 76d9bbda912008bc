"""Whether enhancement helped: metrics and predictions before and after, and methods side by side.

`matching` finds what belongs together, `run` plans and resumes, `pipeline` measures a shard, `summary` says what all of
it came to.
"""
