"""What is sent to the Prefect server and asked of it."""
