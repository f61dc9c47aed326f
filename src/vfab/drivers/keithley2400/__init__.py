"""Keithley 2400 series source-meters: plugin, driver and simulator."""
