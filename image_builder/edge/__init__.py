"""What surrounds the HTTP of both services. The manager imports it too, and it imports neither."""
