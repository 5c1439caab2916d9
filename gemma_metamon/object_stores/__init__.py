"""Folders in object stores, as fsspec has addresses for them: opened, fetched from, and mirrored to."""
