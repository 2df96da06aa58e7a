"""The report's parts, each a list of pieces of HTML."""
