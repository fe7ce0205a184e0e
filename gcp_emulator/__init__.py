"""An offline twin of the Google Cloud services that Cloud Deploy uses, spoken to by Google's own clients."""
