"""Models × features × seeds compared on one experiment."""
