"""How the project is: one value, collected from ledger, landing and server. Text, JSON, page and artifact show it."""
