"""Driver for devices of Linux Industrial I/O."""
