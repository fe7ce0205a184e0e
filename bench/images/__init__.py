"""Images of one workload by our builder and by its peers, side by side: `python -m bench images`."""
