"""The three flows and reap, which ends zombies, one file each, and the helpers that they stand on."""
