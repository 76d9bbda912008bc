"""Everything that imports ray: the jobs as they run on a cluster."""
