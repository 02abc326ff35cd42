"""Beyond one machine, on Ray: an ``Executor`` that is handed down, and what only a cluster has. Nothing below knows of it."""
