"""An API on loopback that replaces real ones."""
