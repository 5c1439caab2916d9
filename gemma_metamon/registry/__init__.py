"""Models by name and version: kept by the hash of their files, promoted to stages, fetched and checked when named."""
