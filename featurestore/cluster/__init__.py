"""Access to a Dask cluster for both programs: connection, tasks, and translated errors."""

from featurestore.cluster.connection import connect
from featurestore.cluster.tasks import Cluster

__all__ = ["Cluster", "connect"]
