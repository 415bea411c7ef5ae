"""What can be read: one file a system, and the reader. Knows nothing of Prefect."""
