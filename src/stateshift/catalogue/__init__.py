"""Public files by name: address, licence, size, citation; download, resume, check."""

from stateshift.catalogue.entries import Entry, PublicFile, entries, entry
from stateshift.catalogue.fetching import cache_folder, fetch, get, is_here

__all__ = ["Entry", "PublicFile", "cache_folder", "entries", "entry", "fetch", "get", "is_here"]
