"""Images without a daemon: a request and the project's files become an OCI image, layer by layer."""
