"""Argo workflows: what a rendered one tells its pods, and what each pod tells of the run that all of them are.

No pod knows of another, and none lives as long as the run. So ids are derived from what they have in common
(`workflow`), and a span around several pods is told by the one that ends it (`pod`, `report`): that of a composite node
and those of its branches by the pod that fans in, that of the run by the pod of the last node. What happened in other
pods it reads in runnable's run log.
"""
