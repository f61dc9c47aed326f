"""Driver for the lines of a GPIO chip."""
