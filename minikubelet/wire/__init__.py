"""Messages between daemon, spawner and monitors, and their codec."""
