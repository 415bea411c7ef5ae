"""Everything that is only for one machine: the demo, the stack that stays, the sample API."""
