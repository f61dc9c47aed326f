"""Programs: what wires the rooms together. Nothing imports this."""
