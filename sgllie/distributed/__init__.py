"""Everything that imports ray: the jobs as they run on a cluster."""

from sgllie.distributed.ray_internals import set_environment

set_environment()
