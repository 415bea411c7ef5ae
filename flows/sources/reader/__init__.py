"""How a source is read: politely, completely, one page in memory at a time."""
