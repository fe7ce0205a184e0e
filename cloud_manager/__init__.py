"""The manager: reads a project's deployment.yaml and makes the world match it."""
