"""Industrial cameras that speak GenICam, through Aravis."""
