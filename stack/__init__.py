"""Everything that starts processes on this machine: the demo, the stack that stays, the sample API."""
