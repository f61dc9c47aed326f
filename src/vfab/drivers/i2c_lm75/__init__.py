"""Driver for LM75 thermometers and their kin."""
