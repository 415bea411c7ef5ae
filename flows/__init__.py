"""The three flows, one file each, and the helpers that they stand on."""
