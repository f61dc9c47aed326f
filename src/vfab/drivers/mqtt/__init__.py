"""MQTT brokers: plugin and driver."""
