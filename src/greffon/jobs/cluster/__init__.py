"""``greffon cluster``: photos without labels, sorted into heaps of what is alike."""

from greffon.jobs.cluster.job import cluster
from greffon.jobs.cluster.result import ClusteredPhoto, ClusterResult

__all__ = ["ClusterResult", "ClusteredPhoto", "cluster"]
