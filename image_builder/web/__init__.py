"""The GUI: server-rendered pages on a port of their own, in the builder's process. It reads the manager over HTTP."""
