"""What runs: extract, transform, orchestrate and crash_zombies, and one package for each part that they use."""
