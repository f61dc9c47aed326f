"""Driver for register sensors on an I2C bus."""
