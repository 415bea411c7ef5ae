"""The profile for many machines, here on one: Postgres, Redis, an object store, DuckLake, servers and workers."""
