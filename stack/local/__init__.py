"""A stack on this machine: its processes, its profiles, its settings."""
