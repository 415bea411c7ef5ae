"""The prefork engine: flow runs forked from a process that has imported everything. See README.md."""
