"""A Dask cluster as both programs use it: connection, tasks, and errors in our words."""

from featurestore.cluster.connection import connect
from featurestore.cluster.tasks import Cluster

__all__ = ["Cluster", "connect"]
