"""The grbl plugin: pen plotters whose controller runs GRBL 1.1 or grblHAL."""
