"""Driver for satellite receivers that speak NMEA 0183, and for gpsd."""
